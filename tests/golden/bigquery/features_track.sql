WITH t2 AS (
  SELECT DISTINCT
    `t0`.`track_id`
  FROM `tracks` AS `t0`
), t6 AS (
  SELECT
    `t2`.`track_id`,
    20759 AS `number`
  FROM t2 AS t2
), t4 AS (
  SELECT
    `t0`.`uploaded_at`,
    `t0`.`duration_ms`,
    `t0`.`explicit`,
    `t0`.`track_id` AS `_k`
  FROM `tracks` AS `t0`
), t7 AS (
  SELECT
    `t6`.`track_id`,
    `t6`.`number`,
    `t4`.`uploaded_at`,
    `t4`.`duration_ms`,
    `t4`.`explicit`,
    `t4`.`_k`
  FROM t6 AS t6
  LEFT OUTER JOIN t4 AS t4
    ON `t6`.`track_id` = `t4`.`_k`
), t12 AS (
  SELECT
    `t7`.`track_id`,
    `t7`.`number`,
    CASE
      WHEN `t7`.`explicit`
      THEN 1.0
      WHEN NOT `t7`.`explicit`
      THEN 0.0
      ELSE CAST(NULL AS FLOAT64)
    END AS `explicit`,
    ieee_divide(`t7`.`number` * 86400000000 - `t7`.`uploaded_at`, 86400000000) AS `age_days`,
    ieee_divide(`t7`.`duration_ms`, 1000) AS `duration_s`
  FROM t7 AS t7
), t9 AS (
  SELECT
    `t1`.`track_id` AS `_k`,
    CAST(TRUNC(
      ieee_divide(
        UNIX_SECONDS(CAST(`t1`.`day` AS DATETIME)) * 1000000 - (
          MOD(UNIX_SECONDS(CAST(`t1`.`day` AS DATETIME)) * 1000000, 86400000000)
        ),
        86400000000
      )
    ) AS INT64) AS `_n`,
    `t1`.`listens`,
    `t1`.`skips`,
    `t1`.`listeners`,
    `t1`.`ms_played`,
    `t1`.`likes`,
    `t1`.`adds`,
    `t1`.`reposts`,
    `t1`.`hides`,
    `t1`.`impressions`
  FROM `daily_tracks` AS `t1`
  WHERE
    `t1`.`day` BETWEEN CAST('2026-10-05' AS DATE) AND CAST('2026-11-01' AS DATE)
), t11 AS (
  SELECT
    `t6`.`track_id`,
    `t6`.`number`,
    `t9`.`_k`,
    `t9`.`_n`,
    `t9`.`listens`,
    `t9`.`skips`,
    `t9`.`listeners`,
    `t9`.`ms_played`,
    `t9`.`likes`,
    `t9`.`adds`,
    `t9`.`reposts`,
    `t9`.`hides`,
    `t9`.`impressions`
  FROM t6 AS t6
  INNER JOIN t9 AS t9
    ON `t6`.`track_id` = `t9`.`_k`
    AND `t9`.`_n` < `t6`.`number`
    AND `t9`.`_n` >= (
      `t6`.`number` - 28
    )
), t13 AS (
  SELECT
    `t11`.`track_id`,
    `t11`.`number`,
    COALESCE(
      SUM(
        IF(
          (
            `t11`.`number` - `t11`.`_n`
          ) <= 1,
          CAST(`t11`.`listens` + `t11`.`skips` AS FLOAT64),
          NULL
        )
      ),
      0.0
    ) AS `_a0`,
    COALESCE(
      SUM(
        IF(
          (
            `t11`.`number` - `t11`.`_n`
          ) <= 7,
          CAST(`t11`.`listens` + `t11`.`skips` AS FLOAT64),
          NULL
        )
      ),
      0.0
    ) AS `_a1`,
    COALESCE(
      SUM(
        IF(
          (
            `t11`.`number` - `t11`.`_n`
          ) <= 28,
          CAST(`t11`.`listens` + `t11`.`skips` AS FLOAT64),
          NULL
        )
      ),
      0.0
    ) AS `_a2`,
    COALESCE(
      SUM(
        IF((
          `t11`.`number` - `t11`.`_n`
        ) <= 7, CAST(`t11`.`listeners` AS FLOAT64), NULL)
      ),
      0.0
    ) AS `_a3`,
    COALESCE(
      SUM(
        IF((
          `t11`.`number` - `t11`.`_n`
        ) <= 28, CAST(`t11`.`listeners` AS FLOAT64), NULL)
      ),
      0.0
    ) AS `_a4`,
    COALESCE(
      SUM(IF((
        `t11`.`number` - `t11`.`_n`
      ) <= 7, CAST(`t11`.`skips` AS FLOAT64), NULL)),
      0.0
    ) AS `_a5`,
    COALESCE(
      SUM(
        IF((
          `t11`.`number` - `t11`.`_n`
        ) <= 28, CAST(`t11`.`skips` AS FLOAT64), NULL)
      ),
      0.0
    ) AS `_a6`,
    COALESCE(
      SUM(
        IF((
          `t11`.`number` - `t11`.`_n`
        ) <= 28, CAST(`t11`.`ms_played` AS FLOAT64), NULL)
      ),
      0.0
    ) AS `_a7`,
    COALESCE(
      SUM(IF((
        `t11`.`number` - `t11`.`_n`
      ) <= 7, CAST(`t11`.`likes` AS FLOAT64), NULL)),
      0.0
    ) AS `_a8`,
    COALESCE(
      SUM(
        IF((
          `t11`.`number` - `t11`.`_n`
        ) <= 28, CAST(`t11`.`likes` AS FLOAT64), NULL)
      ),
      0.0
    ) AS `_a9`,
    COALESCE(
      SUM(IF((
        `t11`.`number` - `t11`.`_n`
      ) <= 28, CAST(`t11`.`adds` AS FLOAT64), NULL)),
      0.0
    ) AS `_a10`,
    COALESCE(
      SUM(
        IF((
          `t11`.`number` - `t11`.`_n`
        ) <= 28, CAST(`t11`.`reposts` AS FLOAT64), NULL)
      ),
      0.0
    ) AS `_a11`,
    COALESCE(
      SUM(
        IF((
          `t11`.`number` - `t11`.`_n`
        ) <= 28, CAST(`t11`.`hides` AS FLOAT64), NULL)
      ),
      0.0
    ) AS `_a12`,
    COALESCE(
      SUM(
        IF((
          `t11`.`number` - `t11`.`_n`
        ) <= 7, CAST(`t11`.`impressions` AS FLOAT64), NULL)
      ),
      0.0
    ) AS `_a13`,
    COALESCE(
      SUM(
        IF((
          `t11`.`number` - `t11`.`_n`
        ) <= 28, CAST(`t11`.`impressions` AS FLOAT64), NULL)
      ),
      0.0
    ) AS `_a14`
  FROM t11 AS t11
  GROUP BY
    1,
    2
), t15 AS (
  SELECT
    `t13`.`track_id` AS `_k`,
    `t13`.`number` AS `_n`,
    `t13`.`_a0`,
    `t13`.`_a1`,
    `t13`.`_a2`,
    `t13`.`_a3`,
    `t13`.`_a4`,
    `t13`.`_a5`,
    `t13`.`_a6`,
    `t13`.`_a7`,
    `t13`.`_a8`,
    `t13`.`_a9`,
    `t13`.`_a10`,
    `t13`.`_a11`,
    `t13`.`_a12`,
    `t13`.`_a13`,
    `t13`.`_a14`
  FROM t13 AS t13
), t16 AS (
  SELECT
    `t12`.`track_id`,
    `t12`.`number`,
    `t12`.`explicit`,
    `t12`.`age_days`,
    `t12`.`duration_s`,
    `t15`.`_k`,
    `t15`.`_n`,
    `t15`.`_a0`,
    `t15`.`_a1`,
    `t15`.`_a2`,
    `t15`.`_a3`,
    `t15`.`_a4`,
    `t15`.`_a5`,
    `t15`.`_a6`,
    `t15`.`_a7`,
    `t15`.`_a8`,
    `t15`.`_a9`,
    `t15`.`_a10`,
    `t15`.`_a11`,
    `t15`.`_a12`,
    `t15`.`_a13`,
    `t15`.`_a14`
  FROM t12 AS t12
  LEFT OUTER JOIN t15 AS t15
    ON `t12`.`track_id` = `t15`.`_k` AND `t12`.`number` = `t15`.`_n`
)
SELECT
  CAST('2026-11-02' AS DATE) AS `day`,
  `t16`.`track_id`,
  CAST(COALESCE(COALESCE(`t16`.`_a0`, 0.0), 0.0) AS FLOAT64) AS `track_plays_1d`,
  CAST(COALESCE(COALESCE(`t16`.`_a1`, 0.0), 0.0) AS FLOAT64) AS `track_plays_7d`,
  CAST(COALESCE(COALESCE(`t16`.`_a2`, 0.0), 0.0) AS FLOAT64) AS `track_plays_28d`,
  CAST(COALESCE(COALESCE(`t16`.`_a3`, 0.0), 0.0) AS FLOAT64) AS `track_listener_days_7d`,
  CAST(COALESCE(COALESCE(`t16`.`_a4`, 0.0), 0.0) AS FLOAT64) AS `track_listener_days_28d`,
  CAST(ieee_divide(COALESCE(`t16`.`_a5`, 0.0), NULLIF(COALESCE(`t16`.`_a1`, 0.0), 0.0)) AS FLOAT64) AS `track_skip_rate_7d`,
  CAST(ieee_divide(COALESCE(`t16`.`_a6`, 0.0), NULLIF(COALESCE(`t16`.`_a2`, 0.0), 0.0)) AS FLOAT64) AS `track_skip_rate_28d`,
  CAST(ieee_divide(COALESCE(`t16`.`_a7`, 0.0), NULLIF(COALESCE(`t16`.`_a2`, 0.0), 0.0)) * 0.001 AS FLOAT64) AS `track_mean_seconds_28d`,
  CAST(ieee_divide(COALESCE(`t16`.`_a2`, 0.0), NULLIF(COALESCE(`t16`.`_a4`, 0.0), 0.0)) AS FLOAT64) AS `track_plays_per_listener_day_28d`,
  CAST(ieee_divide(COALESCE(`t16`.`_a1`, 0.0), NULLIF(COALESCE(`t16`.`_a2`, 0.0), 0.0)) AS FLOAT64) AS `track_trend_28d`,
  CAST(COALESCE(COALESCE(`t16`.`_a8`, 0.0), 0.0) AS FLOAT64) AS `track_likes_7d`,
  CAST(COALESCE(COALESCE(`t16`.`_a9`, 0.0), 0.0) AS FLOAT64) AS `track_likes_28d`,
  CAST(ieee_divide(COALESCE(`t16`.`_a9`, 0.0), NULLIF(COALESCE(`t16`.`_a2`, 0.0), 0.0)) AS FLOAT64) AS `track_like_rate_28d`,
  CAST(COALESCE(COALESCE(`t16`.`_a10`, 0.0), 0.0) AS FLOAT64) AS `track_adds_28d`,
  CAST(COALESCE(COALESCE(`t16`.`_a11`, 0.0), 0.0) AS FLOAT64) AS `track_reposts_28d`,
  CAST(ieee_divide(COALESCE(`t16`.`_a12`, 0.0), NULLIF(COALESCE(`t16`.`_a2`, 0.0), 0.0)) AS FLOAT64) AS `track_hide_rate_28d`,
  CAST(COALESCE(COALESCE(`t16`.`_a13`, 0.0), 0.0) AS FLOAT64) AS `track_impressions_7d`,
  CAST(ieee_divide(COALESCE(`t16`.`_a2`, 0.0), NULLIF(COALESCE(`t16`.`_a14`, 0.0), 0.0)) AS FLOAT64) AS `track_plays_per_impression_28d`,
  CAST(IF(`t16`.`age_days` < 0.0, 0.0, `t16`.`age_days`) AS FLOAT64) AS `track_age_days`,
  CAST(`t16`.`duration_s` AS FLOAT64) AS `track_duration_s`,
  CAST(COALESCE(`t16`.`explicit`, 0.0) AS FLOAT64) AS `track_explicit`
FROM t16 AS t16;
