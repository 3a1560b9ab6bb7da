WITH t5 AS (
  SELECT
    CAST(`t0`.`artist_id` AS INT64) AS `artist_id`
  FROM `artists` AS `t0`
), t6 AS (
  SELECT
    `t1`.`artist_id`
  FROM `tracks` AS `t1`
  WHERE
    `t1`.`artist_id` IS NOT NULL
), t7 AS (
  SELECT
    *
  FROM t5 AS t5
  UNION ALL
  SELECT
    *
  FROM t6 AS t6
), t8 AS (
  SELECT DISTINCT
    *
  FROM t7 AS t7
), t10 AS (
  SELECT
    `t8`.`artist_id`,
    20759 AS `number`
  FROM t8 AS t8
), t4 AS (
  SELECT
    `t0`.`joined_at`,
    `t0`.`artist_id` AS `_k`
  FROM `artists` AS `t0`
), t13 AS (
  SELECT
    `t10`.`artist_id`,
    `t10`.`number`,
    `t4`.`joined_at`,
    `t4`.`_k`
  FROM t10 AS t10
  LEFT OUTER JOIN t4 AS t4
    ON `t10`.`artist_id` = `t4`.`_k`
), t16 AS (
  SELECT
    `t13`.`artist_id`,
    `t13`.`number`,
    ieee_divide(`t13`.`number` * 86400000000 - `t13`.`joined_at`, 86400000000) AS `age_days`
  FROM t13 AS t13
), t12 AS (
  SELECT
    `t2`.`artist_id` AS `_k`,
    CAST(TRUNC(
      ieee_divide(
        UNIX_SECONDS(CAST(`t2`.`day` AS DATETIME)) * 1000000 - (
          MOD(UNIX_SECONDS(CAST(`t2`.`day` AS DATETIME)) * 1000000, 86400000000)
        ),
        86400000000
      )
    ) AS INT64) AS `_n`,
    `t2`.`listens`,
    `t2`.`skips`,
    `t2`.`listeners`,
    `t2`.`likes`,
    `t2`.`follows`,
    `t2`.`impressions`
  FROM `daily_artists` AS `t2`
  WHERE
    `t2`.`day` BETWEEN CAST('2026-10-05' AS DATE) AND CAST('2026-11-01' AS DATE)
), t14 AS (
  SELECT
    `t10`.`artist_id`,
    `t10`.`number`,
    `t12`.`_k`,
    `t12`.`_n`,
    `t12`.`listens`,
    `t12`.`skips`,
    `t12`.`listeners`,
    `t12`.`likes`,
    `t12`.`follows`,
    `t12`.`impressions`
  FROM t10 AS t10
  INNER JOIN t12 AS t12
    ON `t10`.`artist_id` = `t12`.`_k`
    AND `t12`.`_n` < `t10`.`number`
    AND `t12`.`_n` >= (
      `t10`.`number` - 28
    )
), t17 AS (
  SELECT
    `t14`.`artist_id`,
    `t14`.`number`,
    COALESCE(
      SUM(
        IF(
          (
            `t14`.`number` - `t14`.`_n`
          ) <= 7,
          CAST(`t14`.`listens` + `t14`.`skips` AS FLOAT64),
          NULL
        )
      ),
      0.0
    ) AS `_a0`,
    COALESCE(
      SUM(
        IF(
          (
            `t14`.`number` - `t14`.`_n`
          ) <= 28,
          CAST(`t14`.`listens` + `t14`.`skips` AS FLOAT64),
          NULL
        )
      ),
      0.0
    ) AS `_a1`,
    COALESCE(
      SUM(
        IF((
          `t14`.`number` - `t14`.`_n`
        ) <= 28, CAST(`t14`.`listeners` AS FLOAT64), NULL)
      ),
      0.0
    ) AS `_a2`,
    COALESCE(
      SUM(
        IF((
          `t14`.`number` - `t14`.`_n`
        ) <= 28, CAST(`t14`.`skips` AS FLOAT64), NULL)
      ),
      0.0
    ) AS `_a3`,
    COALESCE(
      SUM(
        IF((
          `t14`.`number` - `t14`.`_n`
        ) <= 28, CAST(`t14`.`likes` AS FLOAT64), NULL)
      ),
      0.0
    ) AS `_a4`,
    COALESCE(
      SUM(
        IF((
          `t14`.`number` - `t14`.`_n`
        ) <= 7, CAST(`t14`.`follows` AS FLOAT64), NULL)
      ),
      0.0
    ) AS `_a5`,
    COALESCE(
      SUM(
        IF((
          `t14`.`number` - `t14`.`_n`
        ) <= 28, CAST(`t14`.`follows` AS FLOAT64), NULL)
      ),
      0.0
    ) AS `_a6`,
    COALESCE(
      SUM(
        IF((
          `t14`.`number` - `t14`.`_n`
        ) <= 28, CAST(`t14`.`impressions` AS FLOAT64), NULL)
      ),
      0.0
    ) AS `_a7`
  FROM t14 AS t14
  GROUP BY
    1,
    2
), t19 AS (
  SELECT
    `t17`.`artist_id` AS `_k`,
    `t17`.`number` AS `_n`,
    `t17`.`_a0`,
    `t17`.`_a1`,
    `t17`.`_a2`,
    `t17`.`_a3`,
    `t17`.`_a4`,
    `t17`.`_a5`,
    `t17`.`_a6`,
    `t17`.`_a7`
  FROM t17 AS t17
), t20 AS (
  SELECT
    `t16`.`artist_id`,
    `t16`.`number`,
    `t16`.`age_days`,
    `t19`.`_k`,
    `t19`.`_n`,
    `t19`.`_a0`,
    `t19`.`_a1`,
    `t19`.`_a2`,
    `t19`.`_a3`,
    `t19`.`_a4`,
    `t19`.`_a5`,
    `t19`.`_a6`,
    `t19`.`_a7`
  FROM t16 AS t16
  LEFT OUTER JOIN t19 AS t19
    ON `t16`.`artist_id` = `t19`.`_k` AND `t16`.`number` = `t19`.`_n`
)
SELECT
  CAST('2026-11-02' AS DATE) AS `day`,
  `t20`.`artist_id`,
  CAST(COALESCE(COALESCE(`t20`.`_a0`, 0.0), 0.0) AS FLOAT64) AS `artist_plays_7d`,
  CAST(COALESCE(COALESCE(`t20`.`_a1`, 0.0), 0.0) AS FLOAT64) AS `artist_plays_28d`,
  CAST(COALESCE(COALESCE(`t20`.`_a2`, 0.0), 0.0) AS FLOAT64) AS `artist_listener_days_28d`,
  CAST(ieee_divide(COALESCE(`t20`.`_a3`, 0.0), NULLIF(COALESCE(`t20`.`_a1`, 0.0), 0.0)) AS FLOAT64) AS `artist_skip_rate_28d`,
  CAST(ieee_divide(COALESCE(`t20`.`_a0`, 0.0), NULLIF(COALESCE(`t20`.`_a1`, 0.0), 0.0)) AS FLOAT64) AS `artist_trend_28d`,
  CAST(ieee_divide(COALESCE(`t20`.`_a4`, 0.0), NULLIF(COALESCE(`t20`.`_a1`, 0.0), 0.0)) AS FLOAT64) AS `artist_like_rate_28d`,
  CAST(COALESCE(COALESCE(`t20`.`_a5`, 0.0), 0.0) AS FLOAT64) AS `artist_follows_7d`,
  CAST(COALESCE(COALESCE(`t20`.`_a6`, 0.0), 0.0) AS FLOAT64) AS `artist_follows_28d`,
  CAST(ieee_divide(COALESCE(`t20`.`_a1`, 0.0), NULLIF(COALESCE(`t20`.`_a7`, 0.0), 0.0)) AS FLOAT64) AS `artist_plays_per_impression_28d`,
  CAST(IF(`t20`.`age_days` < 0.0, 0.0, `t20`.`age_days`) AS FLOAT64) AS `artist_age_days`
FROM t20 AS t20;
