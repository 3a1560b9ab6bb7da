-- sessions 2026-11-02..2026-11-02 on bigquery; reads events 2026-11-02..2026-11-03
CREATE TABLE IF NOT EXISTS `sessions` (
  `day` DATE NOT NULL OPTIONS (description = 'UTC date of `ts`; the partition'),
  `user_id` INT64 NOT NULL OPTIONS (description = 'the listener'),
  `session_start` INT64 NOT NULL OPTIONS (description = 'UTC microseconds'),
  `session_end` INT64 NOT NULL OPTIONS (description = 'last event\'s time, UTC microseconds'),
  `events` INT64 NOT NULL OPTIONS (description = 'events of any type'),
  `plays` INT64 NOT NULL OPTIONS (description = 'plays'),
  `listens` INT64 NOT NULL OPTIONS (description = 'plays of 30 s or more, or to the end'),
  `skips` INT64 NOT NULL OPTIONS (description = 'plays given up before that'),
  `tracks` INT64 NOT NULL OPTIONS (description = 'distinct tracks played'),
  `ms_played` INT64 NOT NULL OPTIONS (description = 'milliseconds played')
)
PARTITION BY `day`
CLUSTER BY `user_id`, `session_start`
OPTIONS (description = 'A listener\'s stretches of activity; a row stands in the day the session began.');

CREATE OR REPLACE TABLE `sessions_staged`
OPTIONS (expiration_timestamp = TIMESTAMP_ADD(CURRENT_TIMESTAMP(), INTERVAL 1 DAY))
AS
WITH t1 AS (
  SELECT
    *
  FROM `events` AS `t0`
  WHERE
    `t0`.`day` BETWEEN CAST('2026-11-02' AS DATE) AND CAST('2026-11-03' AS DATE)
), t2 AS (
  SELECT
    `t1`.`user_id`,
    `t1`.`session_start`,
    MAX(`t1`.`ts`) AS `session_end`,
    COUNT(*) AS `events`,
    COUNT(NULLIF(`t1`.`type` = 'play', FALSE)) AS `plays`,
    COUNT(NULLIF(`t1`.`listened`, FALSE)) AS `listens`,
    COUNT(NULLIF(`t1`.`skipped`, FALSE)) AS `skips`,
    COUNT(DISTINCT IF(`t1`.`type` = 'play', `t1`.`track_id`, NULL)) AS `tracks`,
    COALESCE(SUM(IF(`t1`.`type` IN ('play', 'skip'), CAST(`t1`.`ms_played` AS INT64), NULL)), 0) AS `ms_played`
  FROM t1 AS t1
  GROUP BY
    1,
    2
)
SELECT
  DATE(
    TIMESTAMP_SECONDS(
      CAST(TRUNC(
        ieee_divide(`t2`.`session_start` - (
          MOD(`t2`.`session_start`, 1000000)
        ), 1000000)
      ) AS INT64)
    )
  ) AS `day`,
  `t2`.`user_id`,
  `t2`.`session_start`,
  `t2`.`session_end`,
  `t2`.`events`,
  `t2`.`plays`,
  `t2`.`listens`,
  `t2`.`skips`,
  `t2`.`tracks`,
  `t2`.`ms_played`
FROM t2 AS t2
WHERE
  DATE(
    TIMESTAMP_SECONDS(
      CAST(TRUNC(
        ieee_divide(`t2`.`session_start` - (
          MOD(`t2`.`session_start`, 1000000)
        ), 1000000)
      ) AS INT64)
    )
  ) BETWEEN CAST('2026-11-02' AS DATE) AND CAST('2026-11-02' AS DATE);

MERGE `sessions` AS kept
USING (
  SELECT
    *
  FROM `sessions_staged` AS `t0`
) AS new
ON FALSE
WHEN NOT MATCHED BY SOURCE AND kept.`day` BETWEEN DATE '2026-11-02' AND DATE '2026-11-02' THEN DELETE
WHEN NOT MATCHED BY TARGET THEN INSERT (`day`, `user_id`, `session_start`, `session_end`, `events`, `plays`, `listens`, `skips`, `tracks`, `ms_played`) VALUES (`day`, `user_id`, `session_start`, `session_end`, `events`, `plays`, `listens`, `skips`, `tracks`, `ms_played`);
