WITH t18 AS (
  SELECT
    `t0`.`request_id`,
    `t0`.`user_id`,
    `t0`.`ts`,
    `t0`.`track_id`,
    `t0`.`surface`
  FROM `exposures` AS `t0`
  WHERE
    `t0`.`day` BETWEEN CAST('2026-11-02' AS DATE) AND CAST('2026-11-03' AS DATE)
), t19 AS (
  SELECT
    `t1`.`track_id` AS `_track`,
    `t1`.`artist_id` AS `_artist_id`,
    NULLIF(`t1`.`genre`, '') AS `_genre`
  FROM `tracks` AS `t1`
), t14 AS (
  SELECT
    `t2`.`user_id` AS `_user`,
    `t2`.`joined_at` AS `_joined_at`
  FROM `listeners` AS `t2`
), t23 AS (
  SELECT
    `t18`.`request_id`,
    `t18`.`user_id`,
    `t18`.`ts`,
    `t18`.`track_id`,
    `t18`.`surface`,
    `t19`.`_track`,
    `t19`.`_artist_id`,
    `t19`.`_genre`,
    `t14`.`_user`,
    `t14`.`_joined_at`
  FROM t18 AS t18
  LEFT OUTER JOIN t19 AS t19
    ON `t18`.`track_id` = `t19`.`_track`
  LEFT OUTER JOIN t14 AS t14
    ON `t18`.`user_id` = `t14`.`_user`
), t24 AS (
  SELECT
    `t23`.*
    EXCEPT (`_track`, `_user`)
  FROM t23 AS t23
), `t29` AS (
  SELECT DISTINCT
    `t24`.`user_id`,
    `t24`.`ts` AS `moment`
  FROM t24 AS t24
), t21 AS (
  SELECT
    *
  FROM `events` AS `t6`
  WHERE
    `t6`.`day` BETWEEN CAST('2025-09-28' AS DATE) AND CAST('2026-11-03' AS DATE)
    AND `t6`.`type` IN (
      'like',
      'unlike',
      'repost',
      'unrepost',
      'follow',
      'unfollow',
      'playlist_add',
      'hide',
      'block_artist'
    )
), t39 AS (
  SELECT
    `t21`.`ts`,
    `t21`.`user_id` AS `_u`,
    CAST(CASE `t21`.`type`
      WHEN 'like'
      THEN 0
      WHEN 'unlike'
      THEN 0
      WHEN 'repost'
      THEN 1
      WHEN 'unrepost'
      THEN 1
      WHEN 'follow'
      THEN 2
      WHEN 'unfollow'
      THEN 2
      WHEN 'playlist_add'
      THEN 5
      WHEN 'hide'
      THEN 3
      WHEN 'block_artist'
      THEN 4
      ELSE NULL
    END AS INT64) AS `kind`,
    IF(
      CASE `t21`.`type`
        WHEN 'like'
        THEN 0
        WHEN 'unlike'
        THEN 0
        WHEN 'repost'
        THEN 1
        WHEN 'unrepost'
        THEN 1
        WHEN 'follow'
        THEN 2
        WHEN 'unfollow'
        THEN 2
        WHEN 'playlist_add'
        THEN 5
        WHEN 'hide'
        THEN 3
        WHEN 'block_artist'
        THEN 4
        ELSE NULL
      END IN (2, 4),
      `t21`.`artist_id`,
      `t21`.`track_id`
    ) AS `target_id`,
    `t21`.`type` IN ('like', 'repost', 'follow', 'playlist_add', 'hide', 'block_artist') AS `on`
  FROM t21 AS t21
  WHERE
    EXISTS(
      SELECT
        1
      FROM `t29` AS `t32`
      WHERE
        `t21`.`user_id` = `t32`.`user_id`
    )
), t43 AS (
  SELECT
    *
  FROM t39 AS t39
  WHERE
    `t39`.`target_id` IS NOT NULL
), t47 AS (
  SELECT
    `t43`.`_u`,
    `t43`.`kind`,
    `t43`.`target_id`,
    `t43`.`ts`,
    LOGICAL_OR(`t43`.`on`) AS `on`
  FROM t43 AS t43
  GROUP BY
    1,
    2,
    3,
    4
), t57 AS (
  SELECT
    `t47`.`_u`,
    `t47`.`kind`,
    `t47`.`target_id`,
    `t47`.`ts`,
    `t47`.`on`,
    LEAD(`t47`.`ts`, 1) OVER (PARTITION BY `t47`.`_u`, `t47`.`kind`, `t47`.`target_id` ORDER BY `t47`.`ts` ASC) AS `until`
  FROM t47 AS t47
), t63 AS (
  SELECT
    `t31`.`user_id`,
    `t31`.`moment`,
    `t57`.`_u`,
    `t57`.`kind`,
    `t57`.`target_id`,
    `t57`.`ts`,
    `t57`.`on`,
    `t57`.`until`
  FROM `t29` AS `t31`
  INNER JOIN t57 AS t57
    ON `t31`.`user_id` = `t57`.`_u`
    AND `t57`.`ts` < `t31`.`moment`
    AND `t57`.`ts` >= (
      `t31`.`moment` - 34560000000000
    )
    AND (
      `t57`.`until` IS NULL OR `t57`.`until` >= `t31`.`moment`
    )
), t66 AS (
  SELECT
    `t63`.*
    EXCEPT (`_u`, `until`)
  FROM t63 AS t63
), `t73` AS (
  SELECT
    `t66`.`user_id`,
    `t66`.`moment`,
    `t66`.`kind`,
    `t66`.`target_id`,
    `t66`.`ts`,
    `t66`.`on`,
    ROW_NUMBER() OVER (
      PARTITION BY `t66`.`user_id`, `t66`.`moment`
      ORDER BY IF(`t66`.`kind` IN (3, 4), 1, 0) DESC, `t66`.`ts` DESC, `t66`.`kind` DESC, `t66`.`target_id` DESC
    ) - 1 AS `rank`
  FROM t66 AS t66
), t36 AS (
  SELECT
    `t24`.`request_id`,
    `t24`.`user_id`,
    `t24`.`ts`,
    `t24`.`track_id`,
    `t24`.`surface`,
    `t24`.`_artist_id`,
    `t24`.`_genre`,
    `t24`.`_joined_at`,
    CAST(TRUNC(ieee_divide(`t24`.`ts` - (
      MOD(`t24`.`ts`, 86400000000)
    ), 86400000000)) AS INT64) AS `_day`
  FROM t24 AS t24
), t37 AS (
  SELECT DISTINCT
    `t24`.`track_id`,
    CAST(TRUNC(ieee_divide(`t24`.`ts` - (
      MOD(`t24`.`ts`, 86400000000)
    ), 86400000000)) AS INT64) AS `number`
  FROM t24 AS t24
  WHERE
    `t24`.`track_id` IS NOT NULL
), t13 AS (
  SELECT
    `t1`.`uploaded_at`,
    `t1`.`duration_ms`,
    `t1`.`explicit`,
    `t1`.`track_id` AS `_k`
  FROM `tracks` AS `t1`
), t41 AS (
  SELECT
    `t37`.`track_id`,
    `t37`.`number`,
    `t13`.`uploaded_at`,
    `t13`.`duration_ms`,
    `t13`.`explicit`,
    `t13`.`_k`
  FROM t37 AS t37
  LEFT OUTER JOIN t13 AS t13
    ON `t37`.`track_id` = `t13`.`_k`
), t51 AS (
  SELECT
    `t41`.`track_id`,
    `t41`.`number`,
    CASE
      WHEN `t41`.`explicit`
      THEN 1.0
      WHEN NOT `t41`.`explicit`
      THEN 0.0
      ELSE CAST(NULL AS FLOAT64)
    END AS `explicit`,
    ieee_divide(`t41`.`number` * 86400000000 - `t41`.`uploaded_at`, 86400000000) AS `age_days`,
    ieee_divide(`t41`.`duration_ms`, 1000) AS `duration_s`
  FROM t41 AS t41
), t27 AS (
  SELECT
    `t4`.`track_id` AS `_k`,
    CAST(TRUNC(
      ieee_divide(
        UNIX_SECONDS(CAST(`t4`.`day` AS DATETIME)) * 1000000 - (
          MOD(UNIX_SECONDS(CAST(`t4`.`day` AS DATETIME)) * 1000000, 86400000000)
        ),
        86400000000
      )
    ) AS INT64) AS `_n`,
    `t4`.`listens`,
    `t4`.`skips`,
    `t4`.`listeners`,
    `t4`.`ms_played`,
    `t4`.`likes`,
    `t4`.`adds`,
    `t4`.`reposts`,
    `t4`.`hides`,
    `t4`.`impressions`
  FROM `daily_tracks` AS `t4`
  WHERE
    `t4`.`day` BETWEEN CAST('2026-10-05' AS DATE) AND CAST('2026-11-02' AS DATE)
), t44 AS (
  SELECT
    `t37`.`track_id`,
    `t37`.`number`,
    `t27`.`_k`,
    `t27`.`_n`,
    `t27`.`listens`,
    `t27`.`skips`,
    `t27`.`listeners`,
    `t27`.`ms_played`,
    `t27`.`likes`,
    `t27`.`adds`,
    `t27`.`reposts`,
    `t27`.`hides`,
    `t27`.`impressions`
  FROM t37 AS t37
  INNER JOIN t27 AS t27
    ON `t37`.`track_id` = `t27`.`_k`
    AND `t27`.`_n` < `t37`.`number`
    AND `t27`.`_n` >= (
      `t37`.`number` - 28
    )
), t53 AS (
  SELECT
    `t44`.`track_id`,
    `t44`.`number`,
    COALESCE(
      SUM(
        IF(
          (
            `t44`.`number` - `t44`.`_n`
          ) <= 1,
          CAST(`t44`.`listens` + `t44`.`skips` AS FLOAT64),
          NULL
        )
      ),
      0.0
    ) AS `_a0`,
    COALESCE(
      SUM(
        IF(
          (
            `t44`.`number` - `t44`.`_n`
          ) <= 7,
          CAST(`t44`.`listens` + `t44`.`skips` AS FLOAT64),
          NULL
        )
      ),
      0.0
    ) AS `_a1`,
    COALESCE(
      SUM(
        IF(
          (
            `t44`.`number` - `t44`.`_n`
          ) <= 28,
          CAST(`t44`.`listens` + `t44`.`skips` AS FLOAT64),
          NULL
        )
      ),
      0.0
    ) AS `_a2`,
    COALESCE(
      SUM(
        IF((
          `t44`.`number` - `t44`.`_n`
        ) <= 7, CAST(`t44`.`listeners` AS FLOAT64), NULL)
      ),
      0.0
    ) AS `_a3`,
    COALESCE(
      SUM(
        IF((
          `t44`.`number` - `t44`.`_n`
        ) <= 28, CAST(`t44`.`listeners` AS FLOAT64), NULL)
      ),
      0.0
    ) AS `_a4`,
    COALESCE(
      SUM(IF((
        `t44`.`number` - `t44`.`_n`
      ) <= 7, CAST(`t44`.`skips` AS FLOAT64), NULL)),
      0.0
    ) AS `_a5`,
    COALESCE(
      SUM(
        IF((
          `t44`.`number` - `t44`.`_n`
        ) <= 28, CAST(`t44`.`skips` AS FLOAT64), NULL)
      ),
      0.0
    ) AS `_a6`,
    COALESCE(
      SUM(
        IF((
          `t44`.`number` - `t44`.`_n`
        ) <= 28, CAST(`t44`.`ms_played` AS FLOAT64), NULL)
      ),
      0.0
    ) AS `_a7`,
    COALESCE(
      SUM(IF((
        `t44`.`number` - `t44`.`_n`
      ) <= 7, CAST(`t44`.`likes` AS FLOAT64), NULL)),
      0.0
    ) AS `_a8`,
    COALESCE(
      SUM(
        IF((
          `t44`.`number` - `t44`.`_n`
        ) <= 28, CAST(`t44`.`likes` AS FLOAT64), NULL)
      ),
      0.0
    ) AS `_a9`,
    COALESCE(
      SUM(IF((
        `t44`.`number` - `t44`.`_n`
      ) <= 28, CAST(`t44`.`adds` AS FLOAT64), NULL)),
      0.0
    ) AS `_a10`,
    COALESCE(
      SUM(
        IF((
          `t44`.`number` - `t44`.`_n`
        ) <= 28, CAST(`t44`.`reposts` AS FLOAT64), NULL)
      ),
      0.0
    ) AS `_a11`,
    COALESCE(
      SUM(
        IF((
          `t44`.`number` - `t44`.`_n`
        ) <= 28, CAST(`t44`.`hides` AS FLOAT64), NULL)
      ),
      0.0
    ) AS `_a12`,
    COALESCE(
      SUM(
        IF((
          `t44`.`number` - `t44`.`_n`
        ) <= 7, CAST(`t44`.`impressions` AS FLOAT64), NULL)
      ),
      0.0
    ) AS `_a13`,
    COALESCE(
      SUM(
        IF((
          `t44`.`number` - `t44`.`_n`
        ) <= 28, CAST(`t44`.`impressions` AS FLOAT64), NULL)
      ),
      0.0
    ) AS `_a14`
  FROM t44 AS t44
  GROUP BY
    1,
    2
), t61 AS (
  SELECT
    `t53`.`track_id` AS `_k`,
    `t53`.`number` AS `_n`,
    `t53`.`_a0`,
    `t53`.`_a1`,
    `t53`.`_a2`,
    `t53`.`_a3`,
    `t53`.`_a4`,
    `t53`.`_a5`,
    `t53`.`_a6`,
    `t53`.`_a7`,
    `t53`.`_a8`,
    `t53`.`_a9`,
    `t53`.`_a10`,
    `t53`.`_a11`,
    `t53`.`_a12`,
    `t53`.`_a13`,
    `t53`.`_a14`
  FROM t53 AS t53
), t64 AS (
  SELECT
    `t51`.`track_id`,
    `t51`.`number`,
    `t51`.`explicit`,
    `t51`.`age_days`,
    `t51`.`duration_s`,
    `t61`.`_k`,
    `t61`.`_n`,
    `t61`.`_a0`,
    `t61`.`_a1`,
    `t61`.`_a2`,
    `t61`.`_a3`,
    `t61`.`_a4`,
    `t61`.`_a5`,
    `t61`.`_a6`,
    `t61`.`_a7`,
    `t61`.`_a8`,
    `t61`.`_a9`,
    `t61`.`_a10`,
    `t61`.`_a11`,
    `t61`.`_a12`,
    `t61`.`_a13`,
    `t61`.`_a14`
  FROM t51 AS t51
  LEFT OUTER JOIN t61 AS t61
    ON `t51`.`track_id` = `t61`.`_k` AND `t51`.`number` = `t61`.`_n`
), t72 AS (
  SELECT
    `t64`.`track_id` AS `_0_track_id`,
    `t64`.`number` AS `_0_number`,
    COALESCE(COALESCE(`t64`.`_a0`, 0.0), 0.0) AS `_track_plays_1d`,
    COALESCE(COALESCE(`t64`.`_a1`, 0.0), 0.0) AS `_track_plays_7d`,
    COALESCE(COALESCE(`t64`.`_a2`, 0.0), 0.0) AS `_track_plays_28d`,
    COALESCE(COALESCE(`t64`.`_a3`, 0.0), 0.0) AS `_track_listener_days_7d`,
    COALESCE(COALESCE(`t64`.`_a4`, 0.0), 0.0) AS `_track_listener_days_28d`,
    ieee_divide(COALESCE(`t64`.`_a5`, 0.0), NULLIF(COALESCE(`t64`.`_a1`, 0.0), 0.0)) AS `_track_skip_rate_7d`,
    ieee_divide(COALESCE(`t64`.`_a6`, 0.0), NULLIF(COALESCE(`t64`.`_a2`, 0.0), 0.0)) AS `_track_skip_rate_28d`,
    ieee_divide(COALESCE(`t64`.`_a7`, 0.0), NULLIF(COALESCE(`t64`.`_a2`, 0.0), 0.0)) * 0.001 AS `_track_mean_seconds_28d`,
    ieee_divide(COALESCE(`t64`.`_a2`, 0.0), NULLIF(COALESCE(`t64`.`_a4`, 0.0), 0.0)) AS `_track_plays_per_listener_day_28d`,
    ieee_divide(COALESCE(`t64`.`_a1`, 0.0), NULLIF(COALESCE(`t64`.`_a2`, 0.0), 0.0)) AS `_track_trend_28d`,
    COALESCE(COALESCE(`t64`.`_a8`, 0.0), 0.0) AS `_track_likes_7d`,
    COALESCE(COALESCE(`t64`.`_a9`, 0.0), 0.0) AS `_track_likes_28d`,
    ieee_divide(COALESCE(`t64`.`_a9`, 0.0), NULLIF(COALESCE(`t64`.`_a2`, 0.0), 0.0)) AS `_track_like_rate_28d`,
    COALESCE(COALESCE(`t64`.`_a10`, 0.0), 0.0) AS `_track_adds_28d`,
    COALESCE(COALESCE(`t64`.`_a11`, 0.0), 0.0) AS `_track_reposts_28d`,
    ieee_divide(COALESCE(`t64`.`_a12`, 0.0), NULLIF(COALESCE(`t64`.`_a2`, 0.0), 0.0)) AS `_track_hide_rate_28d`,
    COALESCE(COALESCE(`t64`.`_a13`, 0.0), 0.0) AS `_track_impressions_7d`,
    ieee_divide(COALESCE(`t64`.`_a2`, 0.0), NULLIF(COALESCE(`t64`.`_a14`, 0.0), 0.0)) AS `_track_plays_per_impression_28d`,
    IF(`t64`.`age_days` < 0.0, 0.0, `t64`.`age_days`) AS `_track_age_days`,
    `t64`.`duration_s` AS `_track_duration_s`,
    COALESCE(`t64`.`explicit`, 0.0) AS `_track_explicit`
  FROM t64 AS t64
), t38 AS (
  SELECT DISTINCT
    `t24`.`_artist_id` AS `artist_id`,
    CAST(TRUNC(ieee_divide(`t24`.`ts` - (
      MOD(`t24`.`ts`, 86400000000)
    ), 86400000000)) AS INT64) AS `number`
  FROM t24 AS t24
  WHERE
    `t24`.`_artist_id` IS NOT NULL
), t15 AS (
  SELECT
    `t3`.`joined_at`,
    `t3`.`artist_id` AS `_k`
  FROM `artists` AS `t3`
), t42 AS (
  SELECT
    `t38`.`artist_id`,
    `t38`.`number`,
    `t15`.`joined_at`,
    `t15`.`_k`
  FROM t38 AS t38
  LEFT OUTER JOIN t15 AS t15
    ON `t38`.`artist_id` = `t15`.`_k`
), t52 AS (
  SELECT
    `t42`.`artist_id`,
    `t42`.`number`,
    ieee_divide(`t42`.`number` * 86400000000 - `t42`.`joined_at`, 86400000000) AS `age_days`
  FROM t42 AS t42
), t28 AS (
  SELECT
    `t5`.`artist_id` AS `_k`,
    CAST(TRUNC(
      ieee_divide(
        UNIX_SECONDS(CAST(`t5`.`day` AS DATETIME)) * 1000000 - (
          MOD(UNIX_SECONDS(CAST(`t5`.`day` AS DATETIME)) * 1000000, 86400000000)
        ),
        86400000000
      )
    ) AS INT64) AS `_n`,
    `t5`.`listens`,
    `t5`.`skips`,
    `t5`.`listeners`,
    `t5`.`likes`,
    `t5`.`follows`,
    `t5`.`impressions`
  FROM `daily_artists` AS `t5`
  WHERE
    `t5`.`day` BETWEEN CAST('2026-10-05' AS DATE) AND CAST('2026-11-02' AS DATE)
), t45 AS (
  SELECT
    `t38`.`artist_id`,
    `t38`.`number`,
    `t28`.`_k`,
    `t28`.`_n`,
    `t28`.`listens`,
    `t28`.`skips`,
    `t28`.`listeners`,
    `t28`.`likes`,
    `t28`.`follows`,
    `t28`.`impressions`
  FROM t38 AS t38
  INNER JOIN t28 AS t28
    ON `t38`.`artist_id` = `t28`.`_k`
    AND `t28`.`_n` < `t38`.`number`
    AND `t28`.`_n` >= (
      `t38`.`number` - 28
    )
), t54 AS (
  SELECT
    `t45`.`artist_id`,
    `t45`.`number`,
    COALESCE(
      SUM(
        IF(
          (
            `t45`.`number` - `t45`.`_n`
          ) <= 7,
          CAST(`t45`.`listens` + `t45`.`skips` AS FLOAT64),
          NULL
        )
      ),
      0.0
    ) AS `_a0`,
    COALESCE(
      SUM(
        IF(
          (
            `t45`.`number` - `t45`.`_n`
          ) <= 28,
          CAST(`t45`.`listens` + `t45`.`skips` AS FLOAT64),
          NULL
        )
      ),
      0.0
    ) AS `_a1`,
    COALESCE(
      SUM(
        IF((
          `t45`.`number` - `t45`.`_n`
        ) <= 28, CAST(`t45`.`listeners` AS FLOAT64), NULL)
      ),
      0.0
    ) AS `_a2`,
    COALESCE(
      SUM(
        IF((
          `t45`.`number` - `t45`.`_n`
        ) <= 28, CAST(`t45`.`skips` AS FLOAT64), NULL)
      ),
      0.0
    ) AS `_a3`,
    COALESCE(
      SUM(
        IF((
          `t45`.`number` - `t45`.`_n`
        ) <= 28, CAST(`t45`.`likes` AS FLOAT64), NULL)
      ),
      0.0
    ) AS `_a4`,
    COALESCE(
      SUM(
        IF((
          `t45`.`number` - `t45`.`_n`
        ) <= 7, CAST(`t45`.`follows` AS FLOAT64), NULL)
      ),
      0.0
    ) AS `_a5`,
    COALESCE(
      SUM(
        IF((
          `t45`.`number` - `t45`.`_n`
        ) <= 28, CAST(`t45`.`follows` AS FLOAT64), NULL)
      ),
      0.0
    ) AS `_a6`,
    COALESCE(
      SUM(
        IF((
          `t45`.`number` - `t45`.`_n`
        ) <= 28, CAST(`t45`.`impressions` AS FLOAT64), NULL)
      ),
      0.0
    ) AS `_a7`
  FROM t45 AS t45
  GROUP BY
    1,
    2
), t62 AS (
  SELECT
    `t54`.`artist_id` AS `_k`,
    `t54`.`number` AS `_n`,
    `t54`.`_a0`,
    `t54`.`_a1`,
    `t54`.`_a2`,
    `t54`.`_a3`,
    `t54`.`_a4`,
    `t54`.`_a5`,
    `t54`.`_a6`,
    `t54`.`_a7`
  FROM t54 AS t54
), t65 AS (
  SELECT
    `t52`.`artist_id`,
    `t52`.`number`,
    `t52`.`age_days`,
    `t62`.`_k`,
    `t62`.`_n`,
    `t62`.`_a0`,
    `t62`.`_a1`,
    `t62`.`_a2`,
    `t62`.`_a3`,
    `t62`.`_a4`,
    `t62`.`_a5`,
    `t62`.`_a6`,
    `t62`.`_a7`
  FROM t52 AS t52
  LEFT OUTER JOIN t62 AS t62
    ON `t52`.`artist_id` = `t62`.`_k` AND `t52`.`number` = `t62`.`_n`
), t71 AS (
  SELECT
    `t65`.`artist_id` AS `_1_artist_id`,
    `t65`.`number` AS `_1_number`,
    COALESCE(COALESCE(`t65`.`_a0`, 0.0), 0.0) AS `_artist_plays_7d`,
    COALESCE(COALESCE(`t65`.`_a1`, 0.0), 0.0) AS `_artist_plays_28d`,
    COALESCE(COALESCE(`t65`.`_a2`, 0.0), 0.0) AS `_artist_listener_days_28d`,
    ieee_divide(COALESCE(`t65`.`_a3`, 0.0), NULLIF(COALESCE(`t65`.`_a1`, 0.0), 0.0)) AS `_artist_skip_rate_28d`,
    ieee_divide(COALESCE(`t65`.`_a0`, 0.0), NULLIF(COALESCE(`t65`.`_a1`, 0.0), 0.0)) AS `_artist_trend_28d`,
    ieee_divide(COALESCE(`t65`.`_a4`, 0.0), NULLIF(COALESCE(`t65`.`_a1`, 0.0), 0.0)) AS `_artist_like_rate_28d`,
    COALESCE(COALESCE(`t65`.`_a5`, 0.0), 0.0) AS `_artist_follows_7d`,
    COALESCE(COALESCE(`t65`.`_a6`, 0.0), 0.0) AS `_artist_follows_28d`,
    ieee_divide(COALESCE(`t65`.`_a1`, 0.0), NULLIF(COALESCE(`t65`.`_a7`, 0.0), 0.0)) AS `_artist_plays_per_impression_28d`,
    IF(`t65`.`age_days` < 0.0, 0.0, `t65`.`age_days`) AS `_artist_age_days`
  FROM t65 AS t65
), t22 AS (
  SELECT
    *
  FROM `events` AS `t6`
  WHERE
    `t6`.`day` BETWEEN CAST('2026-08-04' AS DATE) AND CAST('2026-11-03' AS DATE)
    AND `t6`.`type` IN ('play', 'skip')
    AND `t6`.`track_id` IS NOT NULL
), t40 AS (
  SELECT
    `t22`.`day`,
    `t22`.`event_id`,
    `t22`.`ts`,
    `t22`.`received_at`,
    `t22`.`user_id`,
    `t22`.`session_id`,
    `t22`.`type`,
    `t22`.`track_id`,
    `t22`.`artist_id`,
    `t22`.`ms_played`,
    `t22`.`surface`,
    `t22`.`position`,
    `t22`.`request_id`,
    `t22`.`playlist_id`,
    `t22`.`query`,
    `t22`.`country`,
    `t22`.`device`,
    `t22`.`session_start`,
    `t22`.`listened`,
    `t22`.`skipped`
  FROM t22 AS t22
  WHERE
    EXISTS(
      SELECT
        1
      FROM `t29` AS `t32`
      WHERE
        `t22`.`user_id` = `t32`.`user_id`
    )
), t48 AS (
  SELECT
    `t40`.`user_id`,
    `t40`.`ts`,
    `t40`.`track_id`,
    LOGICAL_OR(`t40`.`listened`) AS `listened`,
    LOGICAL_AND(`t40`.`skipped`) AS `skipped`,
    GREATEST(MAX(COALESCE(`t40`.`ms_played`, 0)), 0) AS `ms_played`,
    MAX(`t40`.`artist_id`) AS `artist_id`
  FROM t40 AS t40
  GROUP BY
    1,
    2,
    3
), t20 AS (
  SELECT
    `t1`.`track_id` AS `_k`,
    NULLIF(`t1`.`genre`, '') AS `genre`
  FROM `tracks` AS `t1`
), t56 AS (
  SELECT
    `t48`.`user_id`,
    `t48`.`ts`,
    `t48`.`track_id`,
    `t48`.`listened`,
    `t48`.`skipped`,
    `t48`.`ms_played`,
    `t48`.`artist_id`,
    `t20`.`_k`,
    `t20`.`genre`
  FROM t48 AS t48
  LEFT OUTER JOIN t20 AS t20
    ON `t48`.`track_id` = `t20`.`_k`
), t58 AS (
  SELECT
    `t56`.*
    EXCEPT (`_k`)
  FROM t56 AS t56
), t67 AS (
  SELECT
    `t58`.`user_id`,
    `t58`.`ts`,
    `t58`.`track_id`,
    `t58`.`listened`,
    `t58`.`skipped`,
    `t58`.`ms_played`,
    `t58`.`artist_id`,
    `t58`.`genre`,
    IF(
      (
        `t58`.`ts` - LAG(`t58`.`ts`, 1) OVER (PARTITION BY `t58`.`user_id` ORDER BY `t58`.`ts` ASC, `t58`.`track_id` ASC)
      ) < 1800000000,
      0,
      1
    ) AS `fresh`
  FROM t58 AS t58
), t69 AS (
  SELECT
    `t67`.`user_id`,
    `t67`.`ts`,
    `t67`.`track_id`,
    `t67`.`listened`,
    `t67`.`skipped`,
    `t67`.`ms_played`,
    `t67`.`artist_id`,
    `t67`.`genre`,
    `t67`.`fresh`,
    SUM(`t67`.`fresh`) OVER (
      PARTITION BY `t67`.`user_id`
      ORDER BY `t67`.`ts` ASC, `t67`.`track_id` ASC
      ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    ) AS `session`
  FROM t67 AS t67
), t74 AS (
  SELECT
    `t69`.`user_id` AS `_u`,
    `t69`.`ts`,
    `t69`.`track_id`,
    `t69`.`listened`,
    `t69`.`skipped`,
    `t69`.`ms_played`,
    `t69`.`artist_id`,
    `t69`.`genre`,
    `t69`.`fresh`,
    `t69`.`session`
  FROM t69 AS t69
), t77 AS (
  SELECT
    `t74`.*
    EXCEPT (`fresh`)
  FROM t74 AS t74
), t84 AS (
  SELECT
    `t31`.`user_id`,
    `t31`.`moment`,
    `t77`.`_u`,
    `t77`.`ts`,
    `t77`.`track_id`,
    `t77`.`listened`,
    `t77`.`skipped`,
    `t77`.`ms_played`,
    `t77`.`artist_id`,
    `t77`.`genre`,
    `t77`.`session`
  FROM `t29` AS `t31`
  INNER JOIN t77 AS t77
    ON `t31`.`user_id` = `t77`.`_u`
    AND `t77`.`ts` < `t31`.`moment`
    AND `t77`.`ts` >= (
      `t31`.`moment` - 7776000000000
    )
), t85 AS (
  SELECT
    `t84`.*
    EXCEPT (`_u`)
  FROM t84 AS t84
), t103 AS (
  SELECT
    `t85`.`user_id`,
    `t85`.`moment`,
    `t85`.`ts`,
    `t85`.`track_id`,
    `t85`.`listened`,
    `t85`.`skipped`,
    `t85`.`ms_played`,
    `t85`.`artist_id`,
    `t85`.`genre`,
    `t85`.`session`,
    (
      ROW_NUMBER() OVER (
        PARTITION BY `t85`.`user_id`, `t85`.`moment`
        ORDER BY `t85`.`ts` DESC, `t85`.`track_id` DESC
      ) - 1
    ) + 1 AS `recency`,
    FIRST_VALUE(`t85`.`ts`) OVER (
      PARTITION BY `t85`.`user_id`, `t85`.`moment`
      ORDER BY `t85`.`ts` DESC, `t85`.`track_id` DESC
      ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
    ) AS `last_ts`,
    FIRST_VALUE(`t85`.`session`) OVER (
      PARTITION BY `t85`.`user_id`, `t85`.`moment`
      ORDER BY `t85`.`ts` DESC, `t85`.`track_id` DESC
      ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
    ) AS `last_session`
  FROM t85 AS t85
), t105 AS (
  SELECT
    `t103`.`user_id`,
    `t103`.`moment`,
    `t103`.`ts`,
    `t103`.`track_id`,
    `t103`.`listened`,
    `t103`.`skipped`,
    `t103`.`ms_played`,
    `t103`.`artist_id`,
    `t103`.`genre`,
    `t103`.`session`,
    `t103`.`recency`,
    `t103`.`last_ts`,
    `t103`.`last_session`,
    `t103`.`moment` - `t103`.`ts` AS `age`,
    ieee_divide(`t103`.`moment` - `t103`.`ts`, 60000000) AS `minutes_ago`,
    `t103`.`session` = `t103`.`last_session`
    AND (
      `t103`.`moment` - `t103`.`last_ts`
    ) < 1800000000 AS `in_session`,
    `t103`.`ts` - (
      MOD(`t103`.`ts`, 86400000000)
    ) AS `day`
  FROM t103 AS t103
  WHERE
    `t103`.`recency` <= 500
), t106 AS (
  SELECT
    `t105`.*
    EXCEPT (`last_session`, `last_ts`, `session`)
  FROM t105 AS t105
), t107 AS (
  SELECT
    *
  FROM t106 AS t106
  WHERE
    `t106`.`track_id` IS NOT NULL
), t111 AS (
  SELECT
    `t107`.`user_id`,
    `t107`.`moment`,
    `t107`.`track_id`,
    CAST(COUNTIF(`t107`.`age` <= 604800000000) AS FLOAT64) AS `_a0`,
    CAST(COUNTIF(`t107`.`age` <= 7776000000000) AS FLOAT64) AS `_a1`,
    COALESCE(
      SUM(
        IF(
          `t107`.`age` <= 7776000000000,
          CASE
            WHEN `t107`.`skipped`
            THEN 1.0
            WHEN NOT `t107`.`skipped`
            THEN 0.0
            ELSE CAST(NULL AS FLOAT64)
          END,
          NULL
        )
      ),
      0.0
    ) AS `_a2`,
    COALESCE(
      SUM(
        IF(
          `t107`.`age` <= 7776000000000,
          CASE
            WHEN `t107`.`listened`
            THEN 1.0
            WHEN NOT `t107`.`listened`
            THEN 0.0
            ELSE CAST(NULL AS FLOAT64)
          END * EXP(`t107`.`minutes_ago` * -0.00006876460124602631),
          NULL
        )
      ),
      0.0
    ) AS `_a3`,
    MIN(IF(`t107`.`age` <= 7776000000000, `t107`.`minutes_ago`, NULL)) AS `_a4`,
    MIN(IF(`t107`.`age` <= 7776000000000, CAST(`t107`.`recency` AS FLOAT64), NULL)) AS `_a5`,
    CAST(COUNTIF(`t107`.`age` <= 86400000000 AND `t107`.`in_session`) AS FLOAT64) AS `_a6`,
    COALESCE(
      SUM(IF(`t107`.`age` <= 7776000000000, CAST(`t107`.`ms_played` AS FLOAT64), NULL)),
      0.0
    ) AS `_a7`
  FROM t107 AS t107
  GROUP BY
    1,
    2,
    3
), t117 AS (
  SELECT
    `t111`.`user_id` AS `_2_user_id`,
    `t111`.`moment` AS `_2_moment`,
    `t111`.`track_id` AS `_2_track_id`,
    COALESCE(`t111`.`_a0`, 0.0) AS `_listener_track_plays_7d`,
    COALESCE(`t111`.`_a1`, 0.0) AS `_listener_track_plays_90d`,
    ieee_divide(`t111`.`_a2`, NULLIF(`t111`.`_a1`, 0.0)) AS `_listener_track_skip_rate_90d`,
    COALESCE(`t111`.`_a3`, 0.0) AS `_listener_track_affinity_90d`,
    `t111`.`_a4` AS `_listener_track_minutes_since_play_90d`,
    `t111`.`_a5` AS `_listener_track_plays_ago_90d`,
    COALESCE(`t111`.`_a6`, 0.0) AS `_listener_track_session_plays_1d`,
    ieee_divide(`t111`.`_a7`, NULLIF(`t111`.`_a1`, 0.0)) * 0.001 AS `_listener_track_completion_90d`
  FROM t111 AS t111
), t108 AS (
  SELECT
    *
  FROM t106 AS t106
  WHERE
    `t106`.`artist_id` IS NOT NULL
), t112 AS (
  SELECT
    `t108`.`user_id`,
    `t108`.`moment`,
    `t108`.`artist_id`,
    CAST(COUNTIF(`t108`.`age` <= 604800000000) AS FLOAT64) AS `_a0`,
    CAST(COUNTIF(`t108`.`age` <= 7776000000000) AS FLOAT64) AS `_a1`,
    COALESCE(
      SUM(
        IF(
          `t108`.`age` <= 7776000000000,
          CASE
            WHEN `t108`.`skipped`
            THEN 1.0
            WHEN NOT `t108`.`skipped`
            THEN 0.0
            ELSE CAST(NULL AS FLOAT64)
          END,
          NULL
        )
      ),
      0.0
    ) AS `_a2`,
    COALESCE(
      SUM(
        IF(
          `t108`.`age` <= 7776000000000,
          CASE
            WHEN `t108`.`listened`
            THEN 1.0
            WHEN NOT `t108`.`listened`
            THEN 0.0
            ELSE CAST(NULL AS FLOAT64)
          END * EXP(`t108`.`minutes_ago` * -0.00006876460124602631),
          NULL
        )
      ),
      0.0
    ) AS `_a3`,
    MIN(IF(`t108`.`age` <= 7776000000000, `t108`.`minutes_ago`, NULL)) AS `_a4`,
    MIN(IF(`t108`.`age` <= 7776000000000, CAST(`t108`.`recency` AS FLOAT64), NULL)) AS `_a5`,
    CAST(COUNTIF(`t108`.`age` <= 86400000000 AND `t108`.`in_session`) AS FLOAT64) AS `_a6`,
    CAST(COUNT(DISTINCT IF(`t108`.`age` <= 7776000000000, `t108`.`track_id`, NULL)) AS FLOAT64) AS `_a7`,
    COALESCE(
      SUM(
        IF(
          `t108`.`age` <= 86400000000 AND `t108`.`in_session`,
          CASE
            WHEN `t108`.`skipped`
            THEN 1.0
            WHEN NOT `t108`.`skipped`
            THEN 0.0
            ELSE CAST(NULL AS FLOAT64)
          END,
          NULL
        )
      ),
      0.0
    ) AS `_a8`
  FROM t108 AS t108
  GROUP BY
    1,
    2,
    3
), t120 AS (
  SELECT
    `t112`.`user_id` AS `_3_user_id`,
    `t112`.`moment` AS `_3_moment`,
    `t112`.`artist_id` AS `_3_artist_id`,
    COALESCE(`t112`.`_a0`, 0.0) AS `_listener_artist_plays_7d`,
    COALESCE(`t112`.`_a1`, 0.0) AS `_listener_artist_plays_90d`,
    ieee_divide(`t112`.`_a2`, NULLIF(`t112`.`_a1`, 0.0)) AS `_listener_artist_skip_rate_90d`,
    COALESCE(`t112`.`_a3`, 0.0) AS `_listener_artist_affinity_90d`,
    `t112`.`_a4` AS `_listener_artist_minutes_since_play_90d`,
    `t112`.`_a5` AS `_listener_artist_plays_ago_90d`,
    COALESCE(`t112`.`_a6`, 0.0) AS `_listener_artist_session_plays_1d`,
    COALESCE(`t112`.`_a7`, 0.0) AS `_listener_artist_tracks_90d`,
    COALESCE(
      CASE
        WHEN `t112`.`_a5` <= 1.0
        THEN 1.0
        WHEN NOT `t112`.`_a5` <= 1.0
        THEN 0.0
        ELSE CAST(NULL AS FLOAT64)
      END,
      0.0
    ) AS `_listener_artist_last_was_90d`,
    COALESCE(`t112`.`_a8`, 0.0) AS `_listener_artist_session_skips_1d`
  FROM t112 AS t112
), t109 AS (
  SELECT
    *
  FROM t106 AS t106
  WHERE
    `t106`.`genre` IS NOT NULL
), t113 AS (
  SELECT
    `t109`.`user_id`,
    `t109`.`moment`,
    `t109`.`genre`,
    CAST(COUNTIF(`t109`.`age` <= 604800000000) AS FLOAT64) AS `_a0`,
    CAST(COUNTIF(`t109`.`age` <= 7776000000000) AS FLOAT64) AS `_a1`,
    COALESCE(
      SUM(
        IF(
          `t109`.`age` <= 7776000000000,
          CASE
            WHEN `t109`.`skipped`
            THEN 1.0
            WHEN NOT `t109`.`skipped`
            THEN 0.0
            ELSE CAST(NULL AS FLOAT64)
          END,
          NULL
        )
      ),
      0.0
    ) AS `_a2`,
    COALESCE(
      SUM(
        IF(
          `t109`.`age` <= 7776000000000,
          CASE
            WHEN `t109`.`listened`
            THEN 1.0
            WHEN NOT `t109`.`listened`
            THEN 0.0
            ELSE CAST(NULL AS FLOAT64)
          END * EXP(`t109`.`minutes_ago` * -0.00006876460124602631),
          NULL
        )
      ),
      0.0
    ) AS `_a3`,
    MIN(IF(`t109`.`age` <= 7776000000000, `t109`.`minutes_ago`, NULL)) AS `_a4`,
    MIN(IF(`t109`.`age` <= 7776000000000, CAST(`t109`.`recency` AS FLOAT64), NULL)) AS `_a5`,
    CAST(COUNTIF(`t109`.`age` <= 86400000000 AND `t109`.`in_session`) AS FLOAT64) AS `_a6`,
    CAST(COUNT(DISTINCT IF(`t109`.`age` <= 7776000000000, `t109`.`track_id`, NULL)) AS FLOAT64) AS `_a7`,
    COALESCE(
      SUM(
        IF(
          `t109`.`age` <= 86400000000 AND `t109`.`in_session`,
          CASE
            WHEN `t109`.`skipped`
            THEN 1.0
            WHEN NOT `t109`.`skipped`
            THEN 0.0
            ELSE CAST(NULL AS FLOAT64)
          END,
          NULL
        )
      ),
      0.0
    ) AS `_a8`
  FROM t109 AS t109
  GROUP BY
    1,
    2,
    3
), t121 AS (
  SELECT
    `t113`.`user_id` AS `_4_user_id`,
    `t113`.`moment` AS `_4_moment`,
    `t113`.`genre` AS `_4_genre`,
    COALESCE(`t113`.`_a0`, 0.0) AS `_listener_genre_plays_7d`,
    COALESCE(`t113`.`_a1`, 0.0) AS `_listener_genre_plays_90d`,
    ieee_divide(`t113`.`_a2`, NULLIF(`t113`.`_a1`, 0.0)) AS `_listener_genre_skip_rate_90d`,
    COALESCE(`t113`.`_a3`, 0.0) AS `_listener_genre_affinity_90d`,
    `t113`.`_a4` AS `_listener_genre_minutes_since_play_90d`,
    `t113`.`_a5` AS `_listener_genre_plays_ago_90d`,
    COALESCE(`t113`.`_a6`, 0.0) AS `_listener_genre_session_plays_1d`,
    COALESCE(`t113`.`_a7`, 0.0) AS `_listener_genre_tracks_90d`,
    COALESCE(
      CASE
        WHEN `t113`.`_a5` <= 1.0
        THEN 1.0
        WHEN NOT `t113`.`_a5` <= 1.0
        THEN 0.0
        ELSE CAST(NULL AS FLOAT64)
      END,
      0.0
    ) AS `_listener_genre_last_was_90d`,
    COALESCE(`t113`.`_a8`, 0.0) AS `_listener_genre_session_skips_1d`
  FROM t113 AS t113
), t78 AS (
  SELECT
    `t75`.`user_id`,
    `t75`.`moment`,
    `t75`.`kind`,
    `t75`.`target_id`,
    `t75`.`ts`,
    `t75`.`moment` - `t75`.`ts` AS `age`,
    ieee_divide(`t75`.`moment` - `t75`.`ts`, 60000000) AS `minutes_ago`
  FROM `t73` AS `t75`
  WHERE
    `t75`.`rank` < 5000
    AND `t75`.`on`
    AND `t75`.`kind` = 0
    AND `t75`.`target_id` IS NOT NULL
), t86 AS (
  SELECT
    `t78`.`user_id`,
    `t78`.`moment`,
    `t78`.`target_id`,
    CAST(COUNT(*) AS FLOAT64) AS `_a0`,
    MIN(`t78`.`minutes_ago`) AS `_a1`
  FROM t78 AS t78
  GROUP BY
    1,
    2,
    3
), t97 AS (
  SELECT
    `t86`.`user_id` AS `_5_user_id`,
    `t86`.`moment` AS `_5_moment`,
    `t86`.`target_id` AS `_5_target_id`,
    COALESCE(`t86`.`_a0`, 0.0) AS `_listener_track_liked`,
    `t86`.`_a1` AS `_listener_track_minutes_since_like`
  FROM t86 AS t86
), t79 AS (
  SELECT
    `t75`.`user_id`,
    `t75`.`moment`,
    `t75`.`kind`,
    `t75`.`target_id`,
    `t75`.`ts`,
    `t75`.`moment` - `t75`.`ts` AS `age`,
    ieee_divide(`t75`.`moment` - `t75`.`ts`, 60000000) AS `minutes_ago`
  FROM `t73` AS `t75`
  WHERE
    `t75`.`rank` < 5000
    AND `t75`.`on`
    AND `t75`.`kind` = 5
    AND `t75`.`target_id` IS NOT NULL
), t87 AS (
  SELECT
    `t79`.`user_id`,
    `t79`.`moment`,
    `t79`.`target_id`,
    CAST(COUNT(*) AS FLOAT64) AS `_a0`
  FROM t79 AS t79
  GROUP BY
    1,
    2,
    3
), t98 AS (
  SELECT
    `t87`.`user_id` AS `_6_user_id`,
    `t87`.`moment` AS `_6_moment`,
    `t87`.`target_id` AS `_6_target_id`,
    COALESCE(`t87`.`_a0`, 0.0) AS `_listener_track_added`
  FROM t87 AS t87
), t80 AS (
  SELECT
    `t75`.`user_id`,
    `t75`.`moment`,
    `t75`.`kind`,
    `t75`.`target_id`,
    `t75`.`ts`,
    `t75`.`moment` - `t75`.`ts` AS `age`,
    ieee_divide(`t75`.`moment` - `t75`.`ts`, 60000000) AS `minutes_ago`
  FROM `t73` AS `t75`
  WHERE
    `t75`.`rank` < 5000
    AND `t75`.`on`
    AND `t75`.`kind` = 1
    AND `t75`.`target_id` IS NOT NULL
), t88 AS (
  SELECT
    `t80`.`user_id`,
    `t80`.`moment`,
    `t80`.`target_id`,
    CAST(COUNT(*) AS FLOAT64) AS `_a0`
  FROM t80 AS t80
  GROUP BY
    1,
    2,
    3
), t99 AS (
  SELECT
    `t88`.`user_id` AS `_7_user_id`,
    `t88`.`moment` AS `_7_moment`,
    `t88`.`target_id` AS `_7_target_id`,
    COALESCE(`t88`.`_a0`, 0.0) AS `_listener_track_reposted`
  FROM t88 AS t88
), t81 AS (
  SELECT
    `t75`.`user_id`,
    `t75`.`moment`,
    `t75`.`kind`,
    `t75`.`target_id`,
    `t75`.`ts`,
    `t75`.`moment` - `t75`.`ts` AS `age`,
    ieee_divide(`t75`.`moment` - `t75`.`ts`, 60000000) AS `minutes_ago`
  FROM `t73` AS `t75`
  WHERE
    `t75`.`rank` < 5000
    AND `t75`.`on`
    AND `t75`.`kind` = 2
    AND `t75`.`target_id` IS NOT NULL
), t89 AS (
  SELECT
    `t81`.`user_id`,
    `t81`.`moment`,
    `t81`.`target_id`,
    CAST(COUNT(*) AS FLOAT64) AS `_a0`
  FROM t81 AS t81
  GROUP BY
    1,
    2,
    3
), t100 AS (
  SELECT
    `t89`.`user_id` AS `_8_user_id`,
    `t89`.`moment` AS `_8_moment`,
    `t89`.`target_id` AS `_8_target_id`,
    COALESCE(`t89`.`_a0`, 0.0) AS `_listener_artist_followed`
  FROM t89 AS t89
), t110 AS (
  SELECT
    `t106`.`user_id`,
    `t106`.`moment`,
    CAST(COUNTIF(`t106`.`age` <= 3600000000) AS FLOAT64) AS `_a0`,
    CAST(COUNTIF(`t106`.`age` <= 86400000000) AS FLOAT64) AS `_a1`,
    CAST(COUNTIF(`t106`.`age` <= 604800000000) AS FLOAT64) AS `_a2`,
    CAST(COUNTIF(`t106`.`age` <= 2419200000000) AS FLOAT64) AS `_a3`,
    CAST(COUNTIF(`t106`.`age` <= 7776000000000) AS FLOAT64) AS `_a4`,
    COALESCE(
      SUM(
        IF(
          `t106`.`age` <= 86400000000,
          CASE
            WHEN `t106`.`skipped`
            THEN 1.0
            WHEN NOT `t106`.`skipped`
            THEN 0.0
            ELSE CAST(NULL AS FLOAT64)
          END,
          NULL
        )
      ),
      0.0
    ) AS `_a5`,
    COALESCE(
      SUM(
        IF(
          `t106`.`age` <= 2419200000000,
          CASE
            WHEN `t106`.`skipped`
            THEN 1.0
            WHEN NOT `t106`.`skipped`
            THEN 0.0
            ELSE CAST(NULL AS FLOAT64)
          END,
          NULL
        )
      ),
      0.0
    ) AS `_a6`,
    COALESCE(
      SUM(IF(`t106`.`age` <= 2419200000000, CAST(`t106`.`ms_played` AS FLOAT64), NULL)),
      0.0
    ) AS `_a7`,
    CAST(COUNT(DISTINCT IF(`t106`.`age` <= 2419200000000, `t106`.`day`, NULL)) AS FLOAT64) AS `_a8`,
    CAST(COUNT(DISTINCT IF(`t106`.`age` <= 2419200000000, `t106`.`artist_id`, NULL)) AS FLOAT64) AS `_a9`,
    CAST(COUNT(DISTINCT IF(`t106`.`age` <= 2419200000000, `t106`.`genre`, NULL)) AS FLOAT64) AS `_a10`,
    CAST(COUNT(DISTINCT IF(`t106`.`age` <= 2419200000000, `t106`.`track_id`, NULL)) AS FLOAT64) AS `_a11`,
    MIN(IF(`t106`.`age` <= 7776000000000, `t106`.`minutes_ago`, NULL)) AS `_a12`,
    MAX(
      IF(
        `t106`.`age` <= 7776000000000 AND `t106`.`recency` <= 1,
        CASE
          WHEN `t106`.`skipped`
          THEN 1.0
          WHEN NOT `t106`.`skipped`
          THEN 0.0
          ELSE CAST(NULL AS FLOAT64)
        END,
        NULL
      )
    ) AS `_a13`,
    CAST(COUNTIF(`t106`.`age` <= 86400000000 AND `t106`.`in_session`) AS FLOAT64) AS `_a14`,
    COALESCE(
      SUM(
        IF(
          `t106`.`age` <= 86400000000 AND `t106`.`in_session`,
          CASE
            WHEN `t106`.`skipped`
            THEN 1.0
            WHEN NOT `t106`.`skipped`
            THEN 0.0
            ELSE CAST(NULL AS FLOAT64)
          END,
          NULL
        )
      ),
      0.0
    ) AS `_a15`,
    CAST(COUNT(
      DISTINCT IF(`t106`.`age` <= 86400000000 AND `t106`.`in_session`, `t106`.`artist_id`, NULL)
    ) AS FLOAT64) AS `_a16`,
    MAX(
      IF(`t106`.`age` <= 86400000000 AND `t106`.`in_session`, `t106`.`minutes_ago`, NULL)
    ) AS `_a17`,
    COALESCE(
      SUM(
        IF(
          `t106`.`age` <= 7776000000000 AND `t106`.`recency` <= 10,
          CASE
            WHEN `t106`.`skipped`
            THEN 1.0
            WHEN NOT `t106`.`skipped`
            THEN 0.0
            ELSE CAST(NULL AS FLOAT64)
          END,
          NULL
        )
      ),
      0.0
    ) AS `_a18`,
    CAST(COUNTIF(`t106`.`age` <= 7776000000000 AND `t106`.`recency` <= 10) AS FLOAT64) AS `_a19`
  FROM t106 AS t106
  GROUP BY
    1,
    2
), t115 AS (
  SELECT
    `t110`.`user_id` AS `_9_user_id`,
    `t110`.`moment` AS `_9_moment`,
    COALESCE(`t110`.`_a0`, 0.0) AS `_listener_plays_1h`,
    COALESCE(`t110`.`_a1`, 0.0) AS `_listener_plays_1d`,
    COALESCE(`t110`.`_a2`, 0.0) AS `_listener_plays_7d`,
    COALESCE(`t110`.`_a3`, 0.0) AS `_listener_plays_28d`,
    COALESCE(`t110`.`_a4`, 0.0) AS `_listener_plays_90d`,
    ieee_divide(`t110`.`_a5`, NULLIF(`t110`.`_a1`, 0.0)) AS `_listener_skip_rate_1d`,
    ieee_divide(`t110`.`_a6`, NULLIF(`t110`.`_a3`, 0.0)) AS `_listener_skip_rate_28d`,
    ieee_divide(`t110`.`_a7`, NULLIF(`t110`.`_a3`, 0.0)) * 0.001 AS `_listener_mean_seconds_28d`,
    COALESCE(`t110`.`_a8`, 0.0) AS `_listener_active_days_28d`,
    COALESCE(`t110`.`_a9`, 0.0) AS `_listener_artists_28d`,
    COALESCE(`t110`.`_a10`, 0.0) AS `_listener_genres_28d`,
    1.0 - ieee_divide(`t110`.`_a11`, NULLIF(`t110`.`_a3`, 0.0)) AS `_listener_repeat_rate_28d`,
    `t110`.`_a12` AS `_listener_minutes_since_play_90d`,
    `t110`.`_a13` AS `_listener_last_skipped_90d`,
    COALESCE(`t110`.`_a14`, 0.0) AS `_listener_session_plays_1d`,
    COALESCE(`t110`.`_a15`, 0.0) AS `_listener_session_skips_1d`,
    COALESCE(`t110`.`_a16`, 0.0) AS `_listener_session_artists_1d`,
    COALESCE(`t110`.`_a17`, 0.0) AS `_listener_session_minutes_1d`,
    ieee_divide(`t110`.`_a18`, NULLIF(`t110`.`_a19`, 0.0)) AS `_listener_recent_skip_rate_90d`
  FROM t110 AS t110
), t82 AS (
  SELECT
    `t75`.`user_id`,
    `t75`.`moment`,
    `t75`.`kind`,
    `t75`.`target_id`,
    `t75`.`ts`,
    `t75`.`moment` - `t75`.`ts` AS `age`,
    ieee_divide(`t75`.`moment` - `t75`.`ts`, 60000000) AS `minutes_ago`
  FROM `t73` AS `t75`
  WHERE
    `t75`.`rank` < 5000 AND `t75`.`on` AND `t75`.`kind` = 0
), t91 AS (
  SELECT
    `t82`.`user_id`,
    `t82`.`moment`,
    CAST(COUNTIF(`t82`.`age` <= 2419200000000) AS FLOAT64) AS `_a0`,
    CAST(COUNT(*) AS FLOAT64) AS `_a1`
  FROM t82 AS t82
  GROUP BY
    1,
    2
), t104 AS (
  SELECT
    `t91`.`user_id` AS `_10_user_id`,
    `t91`.`moment` AS `_10_moment`,
    COALESCE(`t91`.`_a0`, 0.0) AS `_listener_likes_28d`,
    COALESCE(`t91`.`_a1`, 0.0) AS `_listener_likes`
  FROM t91 AS t91
), t83 AS (
  SELECT
    `t75`.`user_id`,
    `t75`.`moment`,
    `t75`.`kind`,
    `t75`.`target_id`,
    `t75`.`ts`,
    `t75`.`moment` - `t75`.`ts` AS `age`,
    ieee_divide(`t75`.`moment` - `t75`.`ts`, 60000000) AS `minutes_ago`
  FROM `t73` AS `t75`
  WHERE
    `t75`.`rank` < 5000 AND `t75`.`on` AND `t75`.`kind` = 2
), t90 AS (
  SELECT
    `t83`.`user_id`,
    `t83`.`moment`,
    CAST(COUNT(*) AS FLOAT64) AS `_a0`
  FROM t83 AS t83
  GROUP BY
    1,
    2
), t101 AS (
  SELECT
    `t90`.`user_id` AS `_11_user_id`,
    `t90`.`moment` AS `_11_moment`,
    COALESCE(`t90`.`_a0`, 0.0) AS `_listener_follows`
  FROM t90 AS t90
)
SELECT
  `t36`.`request_id`,
  `t36`.`user_id`,
  `t36`.`ts`,
  `t36`.`track_id`,
  `t36`.`surface`,
  CAST(IF(
    `t36`.`track_id` IS NULL,
    0.0,
    IF(`t117`.`_2_user_id` IS NOT NULL, `t117`.`_listener_track_plays_7d`, 0.0)
  ) AS FLOAT64) AS `listener_track_plays_7d`,
  CAST(IF(
    `t36`.`track_id` IS NULL,
    0.0,
    IF(`t117`.`_2_user_id` IS NOT NULL, `t117`.`_listener_track_plays_90d`, 0.0)
  ) AS FLOAT64) AS `listener_track_plays_90d`,
  CAST(IF(
    `t36`.`track_id` IS NULL,
    CAST(NULL AS FLOAT64),
    IF(
      `t117`.`_2_user_id` IS NOT NULL,
      `t117`.`_listener_track_skip_rate_90d`,
      CAST(NULL AS FLOAT64)
    )
  ) AS FLOAT64) AS `listener_track_skip_rate_90d`,
  CAST(IF(
    `t36`.`track_id` IS NULL,
    0.0,
    IF(`t117`.`_2_user_id` IS NOT NULL, `t117`.`_listener_track_affinity_90d`, 0.0)
  ) AS FLOAT64) AS `listener_track_affinity_90d`,
  CAST(IF(
    `t36`.`track_id` IS NULL,
    CAST(NULL AS FLOAT64),
    IF(
      `t117`.`_2_user_id` IS NOT NULL,
      `t117`.`_listener_track_minutes_since_play_90d`,
      CAST(NULL AS FLOAT64)
    )
  ) AS FLOAT64) AS `listener_track_minutes_since_play_90d`,
  CAST(IF(
    `t36`.`track_id` IS NULL,
    CAST(NULL AS FLOAT64),
    IF(
      `t117`.`_2_user_id` IS NOT NULL,
      `t117`.`_listener_track_plays_ago_90d`,
      CAST(NULL AS FLOAT64)
    )
  ) AS FLOAT64) AS `listener_track_plays_ago_90d`,
  CAST(IF(
    `t36`.`track_id` IS NULL,
    0.0,
    IF(`t117`.`_2_user_id` IS NOT NULL, `t117`.`_listener_track_session_plays_1d`, 0.0)
  ) AS FLOAT64) AS `listener_track_session_plays_1d`,
  CAST(IF(
    `t36`.`_artist_id` IS NULL,
    0.0,
    IF(`t120`.`_3_user_id` IS NOT NULL, `t120`.`_listener_artist_plays_7d`, 0.0)
  ) AS FLOAT64) AS `listener_artist_plays_7d`,
  CAST(IF(
    `t36`.`_artist_id` IS NULL,
    0.0,
    IF(`t120`.`_3_user_id` IS NOT NULL, `t120`.`_listener_artist_plays_90d`, 0.0)
  ) AS FLOAT64) AS `listener_artist_plays_90d`,
  CAST(IF(
    `t36`.`_artist_id` IS NULL,
    CAST(NULL AS FLOAT64),
    IF(
      `t120`.`_3_user_id` IS NOT NULL,
      `t120`.`_listener_artist_skip_rate_90d`,
      CAST(NULL AS FLOAT64)
    )
  ) AS FLOAT64) AS `listener_artist_skip_rate_90d`,
  CAST(IF(
    `t36`.`_artist_id` IS NULL,
    0.0,
    IF(`t120`.`_3_user_id` IS NOT NULL, `t120`.`_listener_artist_affinity_90d`, 0.0)
  ) AS FLOAT64) AS `listener_artist_affinity_90d`,
  CAST(IF(
    `t36`.`_artist_id` IS NULL,
    CAST(NULL AS FLOAT64),
    IF(
      `t120`.`_3_user_id` IS NOT NULL,
      `t120`.`_listener_artist_minutes_since_play_90d`,
      CAST(NULL AS FLOAT64)
    )
  ) AS FLOAT64) AS `listener_artist_minutes_since_play_90d`,
  CAST(IF(
    `t36`.`_artist_id` IS NULL,
    CAST(NULL AS FLOAT64),
    IF(
      `t120`.`_3_user_id` IS NOT NULL,
      `t120`.`_listener_artist_plays_ago_90d`,
      CAST(NULL AS FLOAT64)
    )
  ) AS FLOAT64) AS `listener_artist_plays_ago_90d`,
  CAST(IF(
    `t36`.`_artist_id` IS NULL,
    0.0,
    IF(`t120`.`_3_user_id` IS NOT NULL, `t120`.`_listener_artist_session_plays_1d`, 0.0)
  ) AS FLOAT64) AS `listener_artist_session_plays_1d`,
  CAST(IF(
    `t36`.`_genre` IS NULL,
    0.0,
    IF(`t121`.`_4_user_id` IS NOT NULL, `t121`.`_listener_genre_plays_7d`, 0.0)
  ) AS FLOAT64) AS `listener_genre_plays_7d`,
  CAST(IF(
    `t36`.`_genre` IS NULL,
    0.0,
    IF(`t121`.`_4_user_id` IS NOT NULL, `t121`.`_listener_genre_plays_90d`, 0.0)
  ) AS FLOAT64) AS `listener_genre_plays_90d`,
  CAST(IF(
    `t36`.`_genre` IS NULL,
    CAST(NULL AS FLOAT64),
    IF(
      `t121`.`_4_user_id` IS NOT NULL,
      `t121`.`_listener_genre_skip_rate_90d`,
      CAST(NULL AS FLOAT64)
    )
  ) AS FLOAT64) AS `listener_genre_skip_rate_90d`,
  CAST(IF(
    `t36`.`_genre` IS NULL,
    0.0,
    IF(`t121`.`_4_user_id` IS NOT NULL, `t121`.`_listener_genre_affinity_90d`, 0.0)
  ) AS FLOAT64) AS `listener_genre_affinity_90d`,
  CAST(IF(
    `t36`.`_genre` IS NULL,
    CAST(NULL AS FLOAT64),
    IF(
      `t121`.`_4_user_id` IS NOT NULL,
      `t121`.`_listener_genre_minutes_since_play_90d`,
      CAST(NULL AS FLOAT64)
    )
  ) AS FLOAT64) AS `listener_genre_minutes_since_play_90d`,
  CAST(IF(
    `t36`.`_genre` IS NULL,
    CAST(NULL AS FLOAT64),
    IF(
      `t121`.`_4_user_id` IS NOT NULL,
      `t121`.`_listener_genre_plays_ago_90d`,
      CAST(NULL AS FLOAT64)
    )
  ) AS FLOAT64) AS `listener_genre_plays_ago_90d`,
  CAST(IF(
    `t36`.`_genre` IS NULL,
    0.0,
    IF(`t121`.`_4_user_id` IS NOT NULL, `t121`.`_listener_genre_session_plays_1d`, 0.0)
  ) AS FLOAT64) AS `listener_genre_session_plays_1d`,
  CAST(IF(
    `t36`.`_artist_id` IS NULL,
    0.0,
    IF(`t120`.`_3_user_id` IS NOT NULL, `t120`.`_listener_artist_tracks_90d`, 0.0)
  ) AS FLOAT64) AS `listener_artist_tracks_90d`,
  CAST(IF(
    `t36`.`_artist_id` IS NULL,
    0.0,
    IF(`t120`.`_3_user_id` IS NOT NULL, `t120`.`_listener_artist_last_was_90d`, 0.0)
  ) AS FLOAT64) AS `listener_artist_last_was_90d`,
  CAST(IF(
    `t36`.`_artist_id` IS NULL,
    0.0,
    IF(`t120`.`_3_user_id` IS NOT NULL, `t120`.`_listener_artist_session_skips_1d`, 0.0)
  ) AS FLOAT64) AS `listener_artist_session_skips_1d`,
  CAST(IF(
    `t36`.`_genre` IS NULL,
    0.0,
    IF(`t121`.`_4_user_id` IS NOT NULL, `t121`.`_listener_genre_tracks_90d`, 0.0)
  ) AS FLOAT64) AS `listener_genre_tracks_90d`,
  CAST(IF(
    `t36`.`_genre` IS NULL,
    0.0,
    IF(`t121`.`_4_user_id` IS NOT NULL, `t121`.`_listener_genre_last_was_90d`, 0.0)
  ) AS FLOAT64) AS `listener_genre_last_was_90d`,
  CAST(IF(
    `t36`.`_genre` IS NULL,
    0.0,
    IF(`t121`.`_4_user_id` IS NOT NULL, `t121`.`_listener_genre_session_skips_1d`, 0.0)
  ) AS FLOAT64) AS `listener_genre_session_skips_1d`,
  CAST(IF(
    `t36`.`track_id` IS NULL,
    CAST(NULL AS FLOAT64),
    IF(
      `t117`.`_2_user_id` IS NOT NULL,
      `t117`.`_listener_track_completion_90d`,
      CAST(NULL AS FLOAT64)
    )
  ) AS FLOAT64) AS `listener_track_completion_90d`,
  CAST(IF(
    `t36`.`track_id` IS NULL,
    0.0,
    IF(`t97`.`_5_user_id` IS NOT NULL, `t97`.`_listener_track_liked`, 0.0)
  ) AS FLOAT64) AS `listener_track_liked`,
  CAST(IF(
    `t36`.`track_id` IS NULL,
    CAST(NULL AS FLOAT64),
    IF(
      `t97`.`_5_user_id` IS NOT NULL,
      `t97`.`_listener_track_minutes_since_like`,
      CAST(NULL AS FLOAT64)
    )
  ) AS FLOAT64) AS `listener_track_minutes_since_like`,
  CAST(IF(
    `t36`.`track_id` IS NULL,
    0.0,
    IF(`t98`.`_6_user_id` IS NOT NULL, `t98`.`_listener_track_added`, 0.0)
  ) AS FLOAT64) AS `listener_track_added`,
  CAST(IF(
    `t36`.`track_id` IS NULL,
    0.0,
    IF(`t99`.`_7_user_id` IS NOT NULL, `t99`.`_listener_track_reposted`, 0.0)
  ) AS FLOAT64) AS `listener_track_reposted`,
  CAST(IF(
    `t36`.`_artist_id` IS NULL,
    0.0,
    IF(`t100`.`_8_user_id` IS NOT NULL, `t100`.`_listener_artist_followed`, 0.0)
  ) AS FLOAT64) AS `listener_artist_followed`,
  CAST(IF(
    `t36`.`_artist_id` IS NULL,
    0.0,
    IF(`t71`.`_1_artist_id` IS NOT NULL, `t71`.`_artist_plays_7d`, 0.0)
  ) AS FLOAT64) AS `artist_plays_7d`,
  CAST(IF(
    `t36`.`_artist_id` IS NULL,
    0.0,
    IF(`t71`.`_1_artist_id` IS NOT NULL, `t71`.`_artist_plays_28d`, 0.0)
  ) AS FLOAT64) AS `artist_plays_28d`,
  CAST(IF(
    `t36`.`_artist_id` IS NULL,
    0.0,
    IF(`t71`.`_1_artist_id` IS NOT NULL, `t71`.`_artist_listener_days_28d`, 0.0)
  ) AS FLOAT64) AS `artist_listener_days_28d`,
  CAST(IF(
    `t36`.`_artist_id` IS NULL,
    CAST(NULL AS FLOAT64),
    IF(
      `t71`.`_1_artist_id` IS NOT NULL,
      `t71`.`_artist_skip_rate_28d`,
      CAST(NULL AS FLOAT64)
    )
  ) AS FLOAT64) AS `artist_skip_rate_28d`,
  CAST(IF(
    `t36`.`_artist_id` IS NULL,
    CAST(NULL AS FLOAT64),
    IF(`t71`.`_1_artist_id` IS NOT NULL, `t71`.`_artist_trend_28d`, CAST(NULL AS FLOAT64))
  ) AS FLOAT64) AS `artist_trend_28d`,
  CAST(IF(
    `t36`.`_artist_id` IS NULL,
    CAST(NULL AS FLOAT64),
    IF(
      `t71`.`_1_artist_id` IS NOT NULL,
      `t71`.`_artist_like_rate_28d`,
      CAST(NULL AS FLOAT64)
    )
  ) AS FLOAT64) AS `artist_like_rate_28d`,
  CAST(IF(
    `t36`.`_artist_id` IS NULL,
    0.0,
    IF(`t71`.`_1_artist_id` IS NOT NULL, `t71`.`_artist_follows_7d`, 0.0)
  ) AS FLOAT64) AS `artist_follows_7d`,
  CAST(IF(
    `t36`.`_artist_id` IS NULL,
    0.0,
    IF(`t71`.`_1_artist_id` IS NOT NULL, `t71`.`_artist_follows_28d`, 0.0)
  ) AS FLOAT64) AS `artist_follows_28d`,
  CAST(IF(
    `t36`.`_artist_id` IS NULL,
    CAST(NULL AS FLOAT64),
    IF(
      `t71`.`_1_artist_id` IS NOT NULL,
      `t71`.`_artist_plays_per_impression_28d`,
      CAST(NULL AS FLOAT64)
    )
  ) AS FLOAT64) AS `artist_plays_per_impression_28d`,
  CAST(IF(
    `t36`.`_artist_id` IS NULL,
    CAST(NULL AS FLOAT64),
    IF(`t71`.`_1_artist_id` IS NOT NULL, `t71`.`_artist_age_days`, CAST(NULL AS FLOAT64))
  ) AS FLOAT64) AS `artist_age_days`,
  CAST(COALESCE(
    ieee_divide((
      MOD(`t36`.`ts`, 86400000000)
    ) - (
      MOD(`t36`.`ts`, 3600000000)
    ), 3600000000),
    0.0
  ) AS FLOAT64) AS `context_hour`,
  CAST(COALESCE(CAST(MOD(`t36`.`_day` + 3, 7) AS FLOAT64), 0.0) AS FLOAT64) AS `context_weekday`,
  CAST(COALESCE(
    CASE
      WHEN CAST(MOD(`t36`.`_day` + 3, 7) AS FLOAT64) >= 5.0
      THEN 1.0
      WHEN NOT CAST(MOD(`t36`.`_day` + 3, 7) AS FLOAT64) >= 5.0
      THEN 0.0
      ELSE CAST(NULL AS FLOAT64)
    END,
    0.0
  ) AS FLOAT64) AS `context_weekend`,
  CAST(COALESCE(
    CASE `t36`.`surface`
      WHEN 'home'
      THEN 0.0
      WHEN 'station'
      THEN 1.0
      WHEN 'next-up'
      THEN 2.0
      WHEN 'related'
      THEN 3.0
      WHEN 'playlist'
      THEN 4.0
      WHEN 'artists'
      THEN 5.0
      WHEN 'search'
      THEN 6.0
      WHEN 'prompt'
      THEN 7.0
      ELSE NULL
    END,
    CAST(NULL AS FLOAT64)
  ) AS FLOAT64) AS `context_surface`,
  CAST(IF(`t115`.`_9_user_id` IS NOT NULL, `t115`.`_listener_plays_1h`, 0.0) AS FLOAT64) AS `listener_plays_1h`,
  CAST(IF(`t115`.`_9_user_id` IS NOT NULL, `t115`.`_listener_plays_1d`, 0.0) AS FLOAT64) AS `listener_plays_1d`,
  CAST(IF(`t115`.`_9_user_id` IS NOT NULL, `t115`.`_listener_plays_7d`, 0.0) AS FLOAT64) AS `listener_plays_7d`,
  CAST(IF(`t115`.`_9_user_id` IS NOT NULL, `t115`.`_listener_plays_28d`, 0.0) AS FLOAT64) AS `listener_plays_28d`,
  CAST(IF(`t115`.`_9_user_id` IS NOT NULL, `t115`.`_listener_plays_90d`, 0.0) AS FLOAT64) AS `listener_plays_90d`,
  CAST(IF(
    `t115`.`_9_user_id` IS NOT NULL,
    `t115`.`_listener_skip_rate_1d`,
    CAST(NULL AS FLOAT64)
  ) AS FLOAT64) AS `listener_skip_rate_1d`,
  CAST(IF(
    `t115`.`_9_user_id` IS NOT NULL,
    `t115`.`_listener_skip_rate_28d`,
    CAST(NULL AS FLOAT64)
  ) AS FLOAT64) AS `listener_skip_rate_28d`,
  CAST(IF(
    `t115`.`_9_user_id` IS NOT NULL,
    `t115`.`_listener_mean_seconds_28d`,
    CAST(NULL AS FLOAT64)
  ) AS FLOAT64) AS `listener_mean_seconds_28d`,
  CAST(IF(`t115`.`_9_user_id` IS NOT NULL, `t115`.`_listener_active_days_28d`, 0.0) AS FLOAT64) AS `listener_active_days_28d`,
  CAST(IF(`t115`.`_9_user_id` IS NOT NULL, `t115`.`_listener_artists_28d`, 0.0) AS FLOAT64) AS `listener_artists_28d`,
  CAST(IF(`t115`.`_9_user_id` IS NOT NULL, `t115`.`_listener_genres_28d`, 0.0) AS FLOAT64) AS `listener_genres_28d`,
  CAST(IF(
    `t115`.`_9_user_id` IS NOT NULL,
    `t115`.`_listener_repeat_rate_28d`,
    CAST(NULL AS FLOAT64)
  ) AS FLOAT64) AS `listener_repeat_rate_28d`,
  CAST(IF(
    `t115`.`_9_user_id` IS NOT NULL,
    `t115`.`_listener_minutes_since_play_90d`,
    CAST(NULL AS FLOAT64)
  ) AS FLOAT64) AS `listener_minutes_since_play_90d`,
  CAST(IF(
    `t115`.`_9_user_id` IS NOT NULL,
    `t115`.`_listener_last_skipped_90d`,
    CAST(NULL AS FLOAT64)
  ) AS FLOAT64) AS `listener_last_skipped_90d`,
  CAST(IF(`t115`.`_9_user_id` IS NOT NULL, `t115`.`_listener_session_plays_1d`, 0.0) AS FLOAT64) AS `listener_session_plays_1d`,
  CAST(IF(`t115`.`_9_user_id` IS NOT NULL, `t115`.`_listener_session_skips_1d`, 0.0) AS FLOAT64) AS `listener_session_skips_1d`,
  CAST(IF(`t115`.`_9_user_id` IS NOT NULL, `t115`.`_listener_session_artists_1d`, 0.0) AS FLOAT64) AS `listener_session_artists_1d`,
  CAST(IF(`t115`.`_9_user_id` IS NOT NULL, `t115`.`_listener_session_minutes_1d`, 0.0) AS FLOAT64) AS `listener_session_minutes_1d`,
  CAST(IF(
    `t115`.`_9_user_id` IS NOT NULL,
    `t115`.`_listener_recent_skip_rate_90d`,
    CAST(NULL AS FLOAT64)
  ) AS FLOAT64) AS `listener_recent_skip_rate_90d`,
  CAST(IF(`t104`.`_10_user_id` IS NOT NULL, `t104`.`_listener_likes_28d`, 0.0) AS FLOAT64) AS `listener_likes_28d`,
  CAST(IF(`t104`.`_10_user_id` IS NOT NULL, `t104`.`_listener_likes`, 0.0) AS FLOAT64) AS `listener_likes`,
  CAST(IF(`t101`.`_11_user_id` IS NOT NULL, `t101`.`_listener_follows`, 0.0) AS FLOAT64) AS `listener_follows`,
  CAST(COALESCE(
    IF(
      ieee_divide(`t36`.`ts` - `t36`.`_joined_at`, 86400000000) < 0.0,
      0.0,
      ieee_divide(`t36`.`ts` - `t36`.`_joined_at`, 86400000000)
    ),
    CAST(NULL AS FLOAT64)
  ) AS FLOAT64) AS `listener_age_days`,
  CAST(IF(
    `t36`.`track_id` IS NULL,
    0.0,
    IF(`t72`.`_0_track_id` IS NOT NULL, `t72`.`_track_plays_1d`, 0.0)
  ) AS FLOAT64) AS `track_plays_1d`,
  CAST(IF(
    `t36`.`track_id` IS NULL,
    0.0,
    IF(`t72`.`_0_track_id` IS NOT NULL, `t72`.`_track_plays_7d`, 0.0)
  ) AS FLOAT64) AS `track_plays_7d`,
  CAST(IF(
    `t36`.`track_id` IS NULL,
    0.0,
    IF(`t72`.`_0_track_id` IS NOT NULL, `t72`.`_track_plays_28d`, 0.0)
  ) AS FLOAT64) AS `track_plays_28d`,
  CAST(IF(
    `t36`.`track_id` IS NULL,
    0.0,
    IF(`t72`.`_0_track_id` IS NOT NULL, `t72`.`_track_listener_days_7d`, 0.0)
  ) AS FLOAT64) AS `track_listener_days_7d`,
  CAST(IF(
    `t36`.`track_id` IS NULL,
    0.0,
    IF(`t72`.`_0_track_id` IS NOT NULL, `t72`.`_track_listener_days_28d`, 0.0)
  ) AS FLOAT64) AS `track_listener_days_28d`,
  CAST(IF(
    `t36`.`track_id` IS NULL,
    CAST(NULL AS FLOAT64),
    IF(`t72`.`_0_track_id` IS NOT NULL, `t72`.`_track_skip_rate_7d`, CAST(NULL AS FLOAT64))
  ) AS FLOAT64) AS `track_skip_rate_7d`,
  CAST(IF(
    `t36`.`track_id` IS NULL,
    CAST(NULL AS FLOAT64),
    IF(`t72`.`_0_track_id` IS NOT NULL, `t72`.`_track_skip_rate_28d`, CAST(NULL AS FLOAT64))
  ) AS FLOAT64) AS `track_skip_rate_28d`,
  CAST(IF(
    `t36`.`track_id` IS NULL,
    CAST(NULL AS FLOAT64),
    IF(
      `t72`.`_0_track_id` IS NOT NULL,
      `t72`.`_track_mean_seconds_28d`,
      CAST(NULL AS FLOAT64)
    )
  ) AS FLOAT64) AS `track_mean_seconds_28d`,
  CAST(IF(
    `t36`.`track_id` IS NULL,
    CAST(NULL AS FLOAT64),
    IF(
      `t72`.`_0_track_id` IS NOT NULL,
      `t72`.`_track_plays_per_listener_day_28d`,
      CAST(NULL AS FLOAT64)
    )
  ) AS FLOAT64) AS `track_plays_per_listener_day_28d`,
  CAST(IF(
    `t36`.`track_id` IS NULL,
    CAST(NULL AS FLOAT64),
    IF(`t72`.`_0_track_id` IS NOT NULL, `t72`.`_track_trend_28d`, CAST(NULL AS FLOAT64))
  ) AS FLOAT64) AS `track_trend_28d`,
  CAST(IF(
    `t36`.`track_id` IS NULL,
    0.0,
    IF(`t72`.`_0_track_id` IS NOT NULL, `t72`.`_track_likes_7d`, 0.0)
  ) AS FLOAT64) AS `track_likes_7d`,
  CAST(IF(
    `t36`.`track_id` IS NULL,
    0.0,
    IF(`t72`.`_0_track_id` IS NOT NULL, `t72`.`_track_likes_28d`, 0.0)
  ) AS FLOAT64) AS `track_likes_28d`,
  CAST(IF(
    `t36`.`track_id` IS NULL,
    CAST(NULL AS FLOAT64),
    IF(`t72`.`_0_track_id` IS NOT NULL, `t72`.`_track_like_rate_28d`, CAST(NULL AS FLOAT64))
  ) AS FLOAT64) AS `track_like_rate_28d`,
  CAST(IF(
    `t36`.`track_id` IS NULL,
    0.0,
    IF(`t72`.`_0_track_id` IS NOT NULL, `t72`.`_track_adds_28d`, 0.0)
  ) AS FLOAT64) AS `track_adds_28d`,
  CAST(IF(
    `t36`.`track_id` IS NULL,
    0.0,
    IF(`t72`.`_0_track_id` IS NOT NULL, `t72`.`_track_reposts_28d`, 0.0)
  ) AS FLOAT64) AS `track_reposts_28d`,
  CAST(IF(
    `t36`.`track_id` IS NULL,
    CAST(NULL AS FLOAT64),
    IF(`t72`.`_0_track_id` IS NOT NULL, `t72`.`_track_hide_rate_28d`, CAST(NULL AS FLOAT64))
  ) AS FLOAT64) AS `track_hide_rate_28d`,
  CAST(IF(
    `t36`.`track_id` IS NULL,
    0.0,
    IF(`t72`.`_0_track_id` IS NOT NULL, `t72`.`_track_impressions_7d`, 0.0)
  ) AS FLOAT64) AS `track_impressions_7d`,
  CAST(IF(
    `t36`.`track_id` IS NULL,
    CAST(NULL AS FLOAT64),
    IF(
      `t72`.`_0_track_id` IS NOT NULL,
      `t72`.`_track_plays_per_impression_28d`,
      CAST(NULL AS FLOAT64)
    )
  ) AS FLOAT64) AS `track_plays_per_impression_28d`,
  CAST(IF(
    `t36`.`track_id` IS NULL,
    CAST(NULL AS FLOAT64),
    IF(`t72`.`_0_track_id` IS NOT NULL, `t72`.`_track_age_days`, CAST(NULL AS FLOAT64))
  ) AS FLOAT64) AS `track_age_days`,
  CAST(IF(
    `t36`.`track_id` IS NULL,
    CAST(NULL AS FLOAT64),
    IF(`t72`.`_0_track_id` IS NOT NULL, `t72`.`_track_duration_s`, CAST(NULL AS FLOAT64))
  ) AS FLOAT64) AS `track_duration_s`,
  CAST(IF(
    `t36`.`track_id` IS NULL,
    0.0,
    IF(`t72`.`_0_track_id` IS NOT NULL, `t72`.`_track_explicit`, 0.0)
  ) AS FLOAT64) AS `track_explicit`
FROM t36 AS t36
LEFT OUTER JOIN t72 AS t72
  ON `t36`.`track_id` = `t72`.`_0_track_id` AND `t36`.`_day` = `t72`.`_0_number`
LEFT OUTER JOIN t71 AS t71
  ON `t36`.`_artist_id` = `t71`.`_1_artist_id` AND `t36`.`_day` = `t71`.`_1_number`
LEFT OUTER JOIN t117 AS t117
  ON `t36`.`user_id` = `t117`.`_2_user_id`
  AND `t36`.`ts` = `t117`.`_2_moment`
  AND `t36`.`track_id` = `t117`.`_2_track_id`
LEFT OUTER JOIN t120 AS t120
  ON `t36`.`user_id` = `t120`.`_3_user_id`
  AND `t36`.`ts` = `t120`.`_3_moment`
  AND `t36`.`_artist_id` = `t120`.`_3_artist_id`
LEFT OUTER JOIN t121 AS t121
  ON `t36`.`user_id` = `t121`.`_4_user_id`
  AND `t36`.`ts` = `t121`.`_4_moment`
  AND `t36`.`_genre` = `t121`.`_4_genre`
LEFT OUTER JOIN t97 AS t97
  ON `t36`.`user_id` = `t97`.`_5_user_id`
  AND `t36`.`ts` = `t97`.`_5_moment`
  AND `t36`.`track_id` = `t97`.`_5_target_id`
LEFT OUTER JOIN t98 AS t98
  ON `t36`.`user_id` = `t98`.`_6_user_id`
  AND `t36`.`ts` = `t98`.`_6_moment`
  AND `t36`.`track_id` = `t98`.`_6_target_id`
LEFT OUTER JOIN t99 AS t99
  ON `t36`.`user_id` = `t99`.`_7_user_id`
  AND `t36`.`ts` = `t99`.`_7_moment`
  AND `t36`.`track_id` = `t99`.`_7_target_id`
LEFT OUTER JOIN t100 AS t100
  ON `t36`.`user_id` = `t100`.`_8_user_id`
  AND `t36`.`ts` = `t100`.`_8_moment`
  AND `t36`.`_artist_id` = `t100`.`_8_target_id`
LEFT OUTER JOIN t115 AS t115
  ON `t36`.`user_id` = `t115`.`_9_user_id` AND `t36`.`ts` = `t115`.`_9_moment`
LEFT OUTER JOIN t104 AS t104
  ON `t36`.`user_id` = `t104`.`_10_user_id` AND `t36`.`ts` = `t104`.`_10_moment`
LEFT OUTER JOIN t101 AS t101
  ON `t36`.`user_id` = `t101`.`_11_user_id` AND `t36`.`ts` = `t101`.`_11_moment`;
