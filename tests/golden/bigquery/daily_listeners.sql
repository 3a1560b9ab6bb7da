-- daily_listeners 2026-11-02..2026-11-02 on bigquery; reads events 2026-11-02..2026-11-02
CREATE TABLE IF NOT EXISTS `daily_listeners` (
  `day` DATE NOT NULL OPTIONS (description = 'UTC date of `ts`; the partition'),
  `user_id` INT64 NOT NULL OPTIONS (description = 'the listener'),
  `plays` INT64 NOT NULL OPTIONS (description = 'plays'),
  `listens` INT64 NOT NULL OPTIONS (description = 'plays of 30 s or more, or to the end'),
  `skips` INT64 NOT NULL OPTIONS (description = 'plays given up before that'),
  `ms_played` INT64 NOT NULL OPTIONS (description = 'milliseconds played'),
  `impressions` INT64 NOT NULL OPTIONS (description = 'times shown'),
  `likes` INT64 NOT NULL OPTIONS (description = 'likes minus nothing: withdrawals are not counted'),
  `reposts` INT64 NOT NULL OPTIONS (description = 'reposts'),
  `adds` INT64 NOT NULL OPTIONS (description = 'times put on a playlist'),
  `hides` INT64 NOT NULL OPTIONS (description = 'times hidden for good'),
  `sessions` INT64 NOT NULL OPTIONS (description = 'sessions begun'),
  `tracks` INT64 NOT NULL OPTIONS (description = 'distinct tracks played'),
  `artists` INT64 NOT NULL OPTIONS (description = 'distinct artists played')
)
PARTITION BY `day`
CLUSTER BY `user_id`
OPTIONS (description = 'What a listener did in a day.');

CREATE OR REPLACE TABLE `daily_listeners_staged`
OPTIONS (expiration_timestamp = TIMESTAMP_ADD(CURRENT_TIMESTAMP(), INTERVAL 1 DAY))
AS
WITH t1 AS (
  SELECT
    *
  FROM `events` AS `t0`
  WHERE
    `t0`.`day` BETWEEN CAST('2026-11-02' AS DATE) AND CAST('2026-11-02' AS DATE)
), t2 AS (
  SELECT
    `t1`.`day`,
    `t1`.`user_id`,
    COUNT(NULLIF(`t1`.`type` = 'play', FALSE)) AS `plays`,
    COUNT(NULLIF(`t1`.`listened`, FALSE)) AS `listens`,
    COUNT(NULLIF(`t1`.`skipped`, FALSE)) AS `skips`,
    COALESCE(SUM(IF(`t1`.`type` IN ('play', 'skip'), CAST(`t1`.`ms_played` AS INT64), NULL)), 0) AS `ms_played`,
    COUNT(NULLIF(`t1`.`type` = 'impression', FALSE)) AS `impressions`,
    COUNT(NULLIF(`t1`.`type` = 'like', FALSE)) AS `likes`,
    COUNT(NULLIF(`t1`.`type` = 'repost', FALSE)) AS `reposts`,
    COUNT(NULLIF(`t1`.`type` = 'playlist_add', FALSE)) AS `adds`,
    COUNT(NULLIF(`t1`.`type` IN ('hide', 'block_artist'), FALSE)) AS `hides`,
    COUNT(
      DISTINCT IF(
        `t1`.`session_start` >= (
          `t1`.`ts` - (
            MOD(`t1`.`ts`, 86400000000)
          )
        ),
        `t1`.`session_start`,
        NULL
      )
    ) AS `sessions`,
    COUNT(DISTINCT IF(`t1`.`type` = 'play', `t1`.`track_id`, NULL)) AS `tracks`,
    COUNT(DISTINCT IF(`t1`.`type` = 'play', `t1`.`artist_id`, NULL)) AS `artists`
  FROM t1 AS t1
  GROUP BY
    1,
    2
)
SELECT
  *
FROM t2 AS t2
WHERE
  `t2`.`day` BETWEEN CAST('2026-11-02' AS DATE) AND CAST('2026-11-02' AS DATE);

MERGE `daily_listeners` AS kept
USING (
  SELECT
    *
  FROM `daily_listeners_staged` AS `t0`
) AS new
ON FALSE
WHEN NOT MATCHED BY SOURCE AND kept.`day` BETWEEN DATE '2026-11-02' AND DATE '2026-11-02' THEN DELETE
WHEN NOT MATCHED BY TARGET THEN INSERT (`day`, `user_id`, `plays`, `listens`, `skips`, `ms_played`, `impressions`, `likes`, `reposts`, `adds`, `hides`, `sessions`, `tracks`, `artists`) VALUES (`day`, `user_id`, `plays`, `listens`, `skips`, `ms_played`, `impressions`, `likes`, `reposts`, `adds`, `hides`, `sessions`, `tracks`, `artists`);
