-- co_listens 2026-11-02..2026-11-02 on bigquery; reads listens 2026-11-01..2026-11-02
CREATE TABLE IF NOT EXISTS `co_listens` (
  `day` DATE NOT NULL OPTIONS (description = 'UTC date of `ts`; the partition'),
  `track_id` INT64 NOT NULL OPTIONS (description = 'the track'),
  `other_id` INT64 NOT NULL OPTIONS (description = 'the track played within five plays of it, before or after'),
  `weight` FLOAT64 NOT NULL OPTIONS (description = 'sum of 1/distance'),
  `pairs` INT64 NOT NULL OPTIONS (description = 'how often')
)
PARTITION BY `day`
CLUSTER BY `track_id`, `other_id`
OPTIONS (description = 'Pairs of tracks one listener played close together in a session, per day. A pair counts 1 at distance one, 1/2 at two, ...');

CREATE OR REPLACE TABLE `co_listens_staged`
OPTIONS (expiration_timestamp = TIMESTAMP_ADD(CURRENT_TIMESTAMP(), INTERVAL 1 DAY))
AS
WITH t1 AS (
  SELECT
    *
  FROM `listens` AS `t0`
  WHERE
    `t0`.`day` BETWEEN CAST('2026-11-01' AS DATE) AND CAST('2026-11-02' AS DATE)
), `t2` AS (
  SELECT
    `t1`.`track_id`,
    LEAD(`t1`.`track_id`, 1) OVER (
      PARTITION BY `t1`.`user_id`, `t1`.`session_start`
      ORDER BY `t1`.`ts` ASC, `t1`.`track_id` ASC
    ) AS `other_1`,
    LEAD(`t1`.`track_id`, 2) OVER (
      PARTITION BY `t1`.`user_id`, `t1`.`session_start`
      ORDER BY `t1`.`ts` ASC, `t1`.`track_id` ASC
    ) AS `other_2`,
    LEAD(`t1`.`track_id`, 3) OVER (
      PARTITION BY `t1`.`user_id`, `t1`.`session_start`
      ORDER BY `t1`.`ts` ASC, `t1`.`track_id` ASC
    ) AS `other_3`,
    LEAD(`t1`.`track_id`, 4) OVER (
      PARTITION BY `t1`.`user_id`, `t1`.`session_start`
      ORDER BY `t1`.`ts` ASC, `t1`.`track_id` ASC
    ) AS `other_4`,
    LEAD(`t1`.`track_id`, 5) OVER (
      PARTITION BY `t1`.`user_id`, `t1`.`session_start`
      ORDER BY `t1`.`ts` ASC, `t1`.`track_id` ASC
    ) AS `other_5`,
    LEAD(`t1`.`day`, 1) OVER (
      PARTITION BY `t1`.`user_id`, `t1`.`session_start`
      ORDER BY `t1`.`ts` ASC, `t1`.`track_id` ASC
    ) AS `day_1`,
    LEAD(`t1`.`day`, 2) OVER (
      PARTITION BY `t1`.`user_id`, `t1`.`session_start`
      ORDER BY `t1`.`ts` ASC, `t1`.`track_id` ASC
    ) AS `day_2`,
    LEAD(`t1`.`day`, 3) OVER (
      PARTITION BY `t1`.`user_id`, `t1`.`session_start`
      ORDER BY `t1`.`ts` ASC, `t1`.`track_id` ASC
    ) AS `day_3`,
    LEAD(`t1`.`day`, 4) OVER (
      PARTITION BY `t1`.`user_id`, `t1`.`session_start`
      ORDER BY `t1`.`ts` ASC, `t1`.`track_id` ASC
    ) AS `day_4`,
    LEAD(`t1`.`day`, 5) OVER (
      PARTITION BY `t1`.`user_id`, `t1`.`session_start`
      ORDER BY `t1`.`ts` ASC, `t1`.`track_id` ASC
    ) AS `day_5`
  FROM t1 AS t1
), t4 AS (
  SELECT
    `t3`.`day_3` AS `day`,
    LEAST(`t3`.`track_id`, `t3`.`other_3`) AS `low`,
    GREATEST(`t3`.`track_id`, `t3`.`other_3`) AS `high`,
    20 AS `units`
  FROM `t2` AS `t3`
  WHERE
    `t3`.`other_3` IS NOT NULL AND `t3`.`other_3` <> `t3`.`track_id`
), t5 AS (
  SELECT
    `t3`.`day_4` AS `day`,
    LEAST(`t3`.`track_id`, `t3`.`other_4`) AS `low`,
    GREATEST(`t3`.`track_id`, `t3`.`other_4`) AS `high`,
    15 AS `units`
  FROM `t2` AS `t3`
  WHERE
    `t3`.`other_4` IS NOT NULL AND `t3`.`other_4` <> `t3`.`track_id`
), t9 AS (
  SELECT
    *
  FROM t4 AS t4
  UNION ALL
  SELECT
    *
  FROM t5 AS t5
), t6 AS (
  SELECT
    `t3`.`day_5` AS `day`,
    LEAST(`t3`.`track_id`, `t3`.`other_5`) AS `low`,
    GREATEST(`t3`.`track_id`, `t3`.`other_5`) AS `high`,
    12 AS `units`
  FROM `t2` AS `t3`
  WHERE
    `t3`.`other_5` IS NOT NULL AND `t3`.`other_5` <> `t3`.`track_id`
), t7 AS (
  SELECT
    `t3`.`day_1` AS `day`,
    LEAST(`t3`.`track_id`, `t3`.`other_1`) AS `low`,
    GREATEST(`t3`.`track_id`, `t3`.`other_1`) AS `high`,
    60 AS `units`
  FROM `t2` AS `t3`
  WHERE
    `t3`.`other_1` IS NOT NULL AND `t3`.`other_1` <> `t3`.`track_id`
), t8 AS (
  SELECT
    `t3`.`day_2` AS `day`,
    LEAST(`t3`.`track_id`, `t3`.`other_2`) AS `low`,
    GREATEST(`t3`.`track_id`, `t3`.`other_2`) AS `high`,
    30 AS `units`
  FROM `t2` AS `t3`
  WHERE
    `t3`.`other_2` IS NOT NULL AND `t3`.`other_2` <> `t3`.`track_id`
), t10 AS (
  SELECT
    *
  FROM t7 AS t7
  UNION ALL
  SELECT
    *
  FROM t8 AS t8
), t11 AS (
  SELECT
    *
  FROM t6 AS t6
  UNION ALL
  SELECT
    *
  FROM t10 AS t10
), t12 AS (
  SELECT
    *
  FROM t9 AS t9
  UNION ALL
  SELECT
    *
  FROM t11 AS t11
), `t13` AS (
  SELECT
    `t12`.`day`,
    `t12`.`low`,
    `t12`.`high`,
    SUM(`t12`.`units`) AS `units`,
    COUNT(*) AS `pairs`
  FROM t12 AS t12
  GROUP BY
    1,
    2,
    3
), t15 AS (
  SELECT
    `t14`.`day`,
    `t14`.`pairs`,
    `t14`.`low` AS `track_id`,
    `t14`.`high` AS `other_id`,
    ieee_divide(CAST(`t14`.`units` AS FLOAT64), 60) AS `weight`
  FROM `t13` AS `t14`
), t16 AS (
  SELECT
    `t14`.`day`,
    `t14`.`pairs`,
    `t14`.`high` AS `track_id`,
    `t14`.`low` AS `other_id`,
    ieee_divide(CAST(`t14`.`units` AS FLOAT64), 60) AS `weight`
  FROM `t13` AS `t14`
), t17 AS (
  SELECT
    *
  FROM t15 AS t15
  UNION ALL
  SELECT
    *
  FROM t16 AS t16
)
SELECT
  `t17`.`day`,
  `t17`.`track_id`,
  `t17`.`other_id`,
  `t17`.`weight`,
  `t17`.`pairs`
FROM t17 AS t17
WHERE
  `t17`.`day` BETWEEN CAST('2026-11-02' AS DATE) AND CAST('2026-11-02' AS DATE);

MERGE `co_listens` AS kept
USING (
  SELECT
    *
  FROM `co_listens_staged` AS `t0`
) AS new
ON FALSE
WHEN NOT MATCHED BY SOURCE AND kept.`day` BETWEEN DATE '2026-11-02' AND DATE '2026-11-02' THEN DELETE
WHEN NOT MATCHED BY TARGET THEN INSERT (`day`, `track_id`, `other_id`, `weight`, `pairs`) VALUES (`day`, `track_id`, `other_id`, `weight`, `pairs`);
