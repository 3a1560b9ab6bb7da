-- outcomes 2026-11-02..2026-11-02 on bigquery; reads exposures 2026-11-02..2026-11-02, events 2026-11-02..2026-11-03
CREATE TABLE IF NOT EXISTS `outcomes` (
  `day` DATE NOT NULL OPTIONS (description = 'UTC date of `ts`; the partition'),
  `request_id` BYTES NOT NULL OPTIONS (description = 'the recommendation'),
  `ts` INT64 NOT NULL OPTIONS (description = 'when it happened, UTC microseconds'),
  `user_id` INT64 OPTIONS (description = 'the listener; null for a stranger'),
  `surface` STRING NOT NULL OPTIONS (description = 'where'),
  `position` INT64 NOT NULL OPTIONS (description = 'slot, from 0'),
  `track_id` INT64 NOT NULL OPTIONS (description = 'the track'),
  `propensity` FLOAT64 OPTIONS (description = 'as logged'),
  `played` BOOL NOT NULL OPTIONS (description = 'started'),
  `listened` BOOL NOT NULL OPTIONS (description = 'played 30 s or more, or to the end'),
  `skipped` BOOL NOT NULL OPTIONS (description = 'given up before that and never listened'),
  `liked` BOOL NOT NULL OPTIONS (description = 'liked'),
  `hidden` BOOL NOT NULL OPTIONS (description = 'hidden for good'),
  `ms_played` INT64 NOT NULL OPTIONS (description = 'milliseconds played')
)
PARTITION BY `day`
CLUSTER BY `user_id`, `ts`, `position`
OPTIONS (description = 'Exposures with what the listener then did with the track within 24 hours.');

CREATE OR REPLACE TABLE `outcomes_staged`
OPTIONS (expiration_timestamp = TIMESTAMP_ADD(CURRENT_TIMESTAMP(), INTERVAL 1 DAY))
AS
WITH t3 AS (
  SELECT
    `t0`.`day`,
    `t0`.`request_id`,
    `t0`.`ts`,
    `t0`.`user_id`,
    `t0`.`surface`,
    `t0`.`position`,
    `t0`.`track_id`,
    `t0`.`propensity`
  FROM `exposures` AS `t0`
  WHERE
    `t0`.`day` BETWEEN CAST('2026-11-02' AS DATE) AND CAST('2026-11-02' AS DATE)
), t5 AS (
  SELECT
    `t1`.`user_id`,
    `t1`.`track_id`,
    `t1`.`ts` AS `at`,
    `t1`.`request_id` AS `answers`,
    `t1`.`surface` AS `where`,
    `t1`.`type`,
    `t1`.`ms_played`,
    `t1`.`listened`,
    `t1`.`skipped`
  FROM `events` AS `t1`
  WHERE
    `t1`.`day` BETWEEN CAST('2026-11-02' AS DATE) AND CAST('2026-11-03' AS DATE)
    AND `t1`.`type` IN ('play', 'skip', 'like', 'hide')
    AND (
      `t1`.`request_id` IS NOT NULL OR `t1`.`surface` IS NOT NULL
    )
), t6 AS (
  SELECT
    `t3`.`day`,
    `t3`.`request_id`,
    `t3`.`ts`,
    `t3`.`user_id`,
    `t3`.`surface`,
    `t3`.`position`,
    `t3`.`track_id`,
    `t3`.`propensity`,
    `t5`.`user_id` AS `user_id_right`,
    `t5`.`track_id` AS `track_id_right`,
    `t5`.`at`,
    `t5`.`answers`,
    `t5`.`where`,
    `t5`.`type`,
    `t5`.`ms_played`,
    `t5`.`listened`,
    `t5`.`skipped`
  FROM t3 AS t3
  INNER JOIN t5 AS t5
    ON `t3`.`user_id` = `t5`.`user_id`
    AND `t3`.`track_id` = `t5`.`track_id`
    AND `t5`.`at` >= `t3`.`ts`
    AND `t5`.`at` < (
      `t3`.`ts` + 86400000000
    )
    AND (
      `t5`.`answers` = `t3`.`request_id`
      OR (
        `t5`.`answers` IS NULL AND `t5`.`where` = `t3`.`surface`
      )
    )
), t8 AS (
  SELECT
    `t6`.`request_id`,
    `t6`.`position`,
    COUNT(NULLIF(`t6`.`type` = 'play', FALSE)) AS `plays`,
    COUNT(NULLIF(`t6`.`listened`, FALSE)) AS `listens`,
    COUNT(NULLIF(`t6`.`skipped`, FALSE)) AS `skips`,
    COUNT(NULLIF(`t6`.`type` = 'like', FALSE)) AS `likes`,
    COUNT(NULLIF(`t6`.`type` = 'hide', FALSE)) AS `hides`,
    COALESCE(SUM(IF(`t6`.`type` IN ('play', 'skip'), CAST(`t6`.`ms_played` AS INT64), NULL)), 0) AS `ms`
  FROM t6 AS t6
  GROUP BY
    1,
    2
), t9 AS (
  SELECT
    `t3`.`day`,
    `t3`.`request_id`,
    `t3`.`ts`,
    `t3`.`user_id`,
    `t3`.`surface`,
    `t3`.`position`,
    `t3`.`track_id`,
    `t3`.`propensity`,
    `t8`.`request_id` AS `request_id_right`,
    `t8`.`position` AS `position_right`,
    `t8`.`plays`,
    `t8`.`listens`,
    `t8`.`skips`,
    `t8`.`likes`,
    `t8`.`hides`,
    `t8`.`ms`
  FROM t3 AS t3
  LEFT OUTER JOIN t8 AS t8
    ON `t3`.`request_id` = `t8`.`request_id` AND `t3`.`position` = `t8`.`position`
)
SELECT
  `t9`.`day`,
  `t9`.`request_id`,
  `t9`.`ts`,
  `t9`.`user_id`,
  `t9`.`surface`,
  `t9`.`position`,
  `t9`.`track_id`,
  `t9`.`propensity`,
  COALESCE(`t9`.`plays` > 0, FALSE) AS `played`,
  COALESCE(`t9`.`listens` > 0, FALSE) AS `listened`,
  COALESCE(`t9`.`skips` > 0 AND `t9`.`listens` = 0, FALSE) AS `skipped`,
  COALESCE(`t9`.`likes` > 0, FALSE) AS `liked`,
  COALESCE(`t9`.`hides` > 0, FALSE) AS `hidden`,
  COALESCE(`t9`.`ms`, 0) AS `ms_played`
FROM t9 AS t9
WHERE
  `t9`.`day` BETWEEN CAST('2026-11-02' AS DATE) AND CAST('2026-11-02' AS DATE);

MERGE `outcomes` AS kept
USING (
  SELECT
    *
  FROM `outcomes_staged` AS `t0`
) AS new
ON FALSE
WHEN NOT MATCHED BY SOURCE AND kept.`day` BETWEEN DATE '2026-11-02' AND DATE '2026-11-02' THEN DELETE
WHEN NOT MATCHED BY TARGET THEN INSERT (`day`, `request_id`, `ts`, `user_id`, `surface`, `position`, `track_id`, `propensity`, `played`, `listened`, `skipped`, `liked`, `hidden`, `ms_played`) VALUES (`day`, `request_id`, `ts`, `user_id`, `surface`, `position`, `track_id`, `propensity`, `played`, `listened`, `skipped`, `liked`, `hidden`, `ms_played`);
