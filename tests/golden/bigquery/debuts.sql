-- debuts 2026-11-02..2026-11-02 on bigquery; reads outcomes 2026-10-20..2026-11-02, exposures 2026-10-20..2026-11-02, tracks whole
CREATE TABLE IF NOT EXISTS `debuts` (
  `day` DATE NOT NULL OPTIONS (description = 'UTC date of `ts`; the partition'),
  `track_id` INT64 NOT NULL OPTIONS (description = 'the track'),
  `artist_id` INT64 OPTIONS (description = 'the artist, where known'),
  `genre` STRING OPTIONS (description = 'main genre'),
  `uploaded_at` INT64 NOT NULL OPTIONS (description = 'UTC microseconds'),
  `days_left` INT64 NOT NULL OPTIONS (description = 'whole days that follow in which it is still a debut'),
  `exposures` INT64 NOT NULL OPTIONS (description = 'slots it was shown in since its upload'),
  `relevant` INT64 NOT NULL OPTIONS (description = 'of these, to a known listener and proposed by a source that looks at taste or the seed'),
  `listeners` INT64 NOT NULL OPTIONS (description = 'distinct listeners of relevant exposures: what the programme counts'),
  `listens` INT64 NOT NULL OPTIONS (description = 'exposures that were listened to'),
  `skips` INT64 NOT NULL OPTIONS (description = 'exposures whose play was given up and never listened to'),
  `prior` FLOAT64 NOT NULL OPTIONS (description = 'listens per exposure of its genre\'s debuts, shrunk to those of all'),
  `rate` FLOAT64 NOT NULL OPTIONS (description = 'expected listens per exposure, by the prior and its own'),
  `upper` FLOAT64 NOT NULL OPTIONS (description = 'upper bound of that rate, 95% one-sided'),
  `paused` STRING OPTIONS (description = 'why the quality guard gives it nothing; null where it does not')
)
PARTITION BY `day`
CLUSTER BY `track_id`
OPTIONS (description = 'New public uploads in their first 14 days, as they stand at the end of the day.');

CREATE OR REPLACE TABLE `debuts_staged`
OPTIONS (expiration_timestamp = TIMESTAMP_ADD(CURRENT_TIMESTAMP(), INTERVAL 1 DAY))
AS
WITH t3 AS (
  SELECT DISTINCT
    `t0`.`day`
  FROM `outcomes` AS `t0`
  WHERE
    `t0`.`day` BETWEEN CAST('2026-10-20' AS DATE) AND CAST('2026-11-02' AS DATE)
), `t8` AS (
  SELECT
    `t3`.`day`,
    DATE_DIFF(`t3`.`day`, CAST('1970-01-01' AS DATE), DAY) AS `number`
  FROM t3 AS t3
), t11 AS (
  SELECT
    `t1`.`track_id`,
    `t1`.`artist_id`,
    `t1`.`genre`,
    `t1`.`uploaded_at`,
    CAST(TRUNC(
      ieee_divide(`t1`.`uploaded_at` - (
        MOD(`t1`.`uploaded_at`, 86400000000)
      ), 86400000000)
    ) AS INT64) AS `born`
  FROM `tracks` AS `t1`
  WHERE
    `t1`.`public` AND `t1`.`uploaded_at` IS NOT NULL
), t14 AS (
  SELECT
    MIN(`t10`.`number`) - 13 AS `since`,
    MAX(`t10`.`number`) AS `until`
  FROM `t8` AS `t10`
), `t15` AS (
  SELECT
    `t11`.`track_id`,
    `t11`.`artist_id`,
    `t11`.`genre`,
    `t11`.`uploaded_at`,
    `t11`.`born`,
    `t14`.`since`,
    `t14`.`until`
  FROM t11 AS t11
  INNER JOIN t14 AS t14
    ON `t11`.`born` >= `t14`.`since` AND `t11`.`born` <= `t14`.`until`
), t6 AS (
  SELECT
    *
  FROM `outcomes` AS `t0`
  WHERE
    `t0`.`day` BETWEEN CAST('2026-10-20' AS DATE) AND CAST('2026-11-02' AS DATE)
), t19 AS (
  SELECT
    `t16`.`track_id`,
    `t16`.`uploaded_at`
  FROM `t15` AS `t16`
), t22 AS (
  SELECT
    `t6`.`day`,
    `t6`.`request_id`,
    `t6`.`ts`,
    `t6`.`user_id`,
    `t6`.`surface`,
    `t6`.`position`,
    `t6`.`track_id`,
    `t6`.`propensity`,
    `t6`.`played`,
    `t6`.`listened`,
    `t6`.`skipped`,
    `t6`.`liked`,
    `t6`.`hidden`,
    `t6`.`ms_played`,
    `t19`.`uploaded_at`
  FROM t6 AS t6
  INNER JOIN t19 AS t19
    ON `t6`.`track_id` = `t19`.`track_id`
), t28 AS (
  SELECT
    `t22`.`request_id`,
    `t22`.`position`,
    `t22`.`ts`,
    `t22`.`user_id`,
    `t22`.`track_id`,
    `t22`.`listened`,
    `t22`.`skipped`
  FROM t22 AS t22
  WHERE
    `t22`.`ts` >= `t22`.`uploaded_at`
    AND `t22`.`ts` < (
      `t22`.`uploaded_at` + 1209600000000
    )
), t7 AS (
  SELECT
    *
  FROM `exposures` AS `t2`
  WHERE
    `t2`.`day` BETWEEN CAST('2026-10-20' AS DATE) AND CAST('2026-11-02' AS DATE)
), t20 AS (
  SELECT
    `t16`.`track_id`,
    `t16`.`artist_id`,
    `t16`.`genre`,
    `t16`.`uploaded_at`,
    `t16`.`born`
  FROM `t15` AS `t16`
), t24 AS (
  SELECT
    `t7`.`request_id`,
    `t7`.`position`,
    COALESCE(
      EXISTS(
        SELECT
          1
        FROM UNNEST(`t7`.`sources`) AS element
        WHERE
          element = 'debuts'
      )
      OR EXISTS(
        SELECT
          1
        FROM UNNEST(`t7`.`sources`) AS element
        WHERE
          element = 'fresh'
      )
      OR EXISTS(
        SELECT
          1
        FROM UNNEST(`t7`.`sources`) AS element
        WHERE
          element = 'fold_in'
      )
      OR EXISTS(
        SELECT
          1
        FROM UNNEST(`t7`.`sources`) AS element
        WHERE
          element = 'graph'
      )
      OR EXISTS(
        SELECT
          1
        FROM UNNEST(`t7`.`sources`) AS element
        WHERE
          element = 'co_listened'
      )
      OR EXISTS(
        SELECT
          1
        FROM UNNEST(`t7`.`sources`) AS element
        WHERE
          element = 'followed'
      )
      OR EXISTS(
        SELECT
          1
        FROM UNNEST(`t7`.`sources`) AS element
        WHERE
          element = 'session_knn'
      )
      OR EXISTS(
        SELECT
          1
        FROM UNNEST(`t7`.`sources`) AS element
        WHERE
          element = 'similar'
      ),
      FALSE
    ) AS `proposed`
  FROM t7 AS t7
  WHERE
    EXISTS(
      SELECT
        1
      FROM t20 AS t20
      WHERE
        `t7`.`track_id` = `t20`.`track_id`
    )
), `t29` AS (
  SELECT
    `t28`.`track_id`,
    `t28`.`user_id`,
    `t28`.`listened`,
    `t28`.`skipped`,
    CAST(TRUNC(ieee_divide(`t28`.`ts` - (
      MOD(`t28`.`ts`, 86400000000)
    ), 86400000000)) AS INT64) AS `number`,
    `t24`.`proposed` AND `t28`.`user_id` IS NOT NULL AS `relevant`
  FROM t28 AS t28
  INNER JOIN t24 AS t24
    ON `t28`.`request_id` = `t24`.`request_id` AND `t28`.`position` = `t24`.`position`
), t21 AS (
  SELECT
    `t12`.`day`,
    `t12`.`number`,
    `t20`.`track_id`,
    `t20`.`artist_id`,
    `t20`.`genre`,
    `t20`.`uploaded_at`,
    `t20`.`born`
  FROM `t8` AS `t12`
  CROSS JOIN t20 AS t20
), t26 AS (
  SELECT
    *
  FROM t21 AS t21
  WHERE
    `t21`.`number` >= `t21`.`born` AND `t21`.`number` < (
      `t21`.`born` + 14
    )
), t33 AS (
  SELECT
    `t30`.`track_id`,
    `t30`.`number`,
    COUNT(*) AS `exposures`,
    COUNT(NULLIF(`t30`.`relevant`, FALSE)) AS `relevant`,
    COUNT(NULLIF(`t30`.`listened`, FALSE)) AS `listens`,
    COUNT(NULLIF(`t30`.`skipped`, FALSE)) AS `skips`
  FROM `t29` AS `t30`
  GROUP BY
    1,
    2
), t31 AS (
  SELECT
    *
  FROM `t29` AS `t30`
  WHERE
    `t30`.`relevant`
), t34 AS (
  SELECT
    `t31`.`track_id`,
    `t31`.`user_id`,
    MIN(`t31`.`number`) AS `number`
  FROM t31 AS t31
  GROUP BY
    1,
    2
), t36 AS (
  SELECT
    `t34`.`track_id`,
    `t34`.`number`,
    COUNT(*) AS `listeners`
  FROM t34 AS t34
  GROUP BY
    1,
    2
), t37 AS (
  SELECT
    `t33`.`track_id`,
    `t33`.`number`,
    `t33`.`exposures`,
    `t33`.`relevant`,
    `t33`.`listens`,
    `t33`.`skips`,
    `t36`.`listeners`
  FROM t33 AS t33
  LEFT OUTER JOIN t36 AS t36
    ON `t33`.`track_id` = `t36`.`track_id` AND `t33`.`number` = `t36`.`number`
), t39 AS (
  SELECT
    `t37`.`track_id` AS `of`,
    `t37`.`number` AS `at`,
    `t37`.`exposures`,
    `t37`.`relevant`,
    `t37`.`listens`,
    `t37`.`skips`,
    `t37`.`listeners`
  FROM t37 AS t37
), t40 AS (
  SELECT
    `t26`.`day`,
    `t26`.`number`,
    `t26`.`track_id`,
    `t26`.`artist_id`,
    `t26`.`genre`,
    `t26`.`uploaded_at`,
    `t26`.`born`,
    `t39`.`of`,
    `t39`.`at`,
    `t39`.`exposures`,
    `t39`.`relevant`,
    `t39`.`listens`,
    `t39`.`skips`,
    `t39`.`listeners`
  FROM t26 AS t26
  LEFT OUTER JOIN t39 AS t39
    ON `t26`.`track_id` = `t39`.`of` AND `t39`.`at` <= `t26`.`number`
), t41 AS (
  SELECT
    `t40`.`day`,
    `t40`.`track_id`,
    `t40`.`artist_id`,
    `t40`.`genre`,
    `t40`.`uploaded_at`,
    `t40`.`number`,
    `t40`.`born`,
    COALESCE(SUM(`t40`.`exposures`), 0) AS `exposures`,
    COALESCE(SUM(`t40`.`relevant`), 0) AS `relevant`,
    COALESCE(SUM(`t40`.`listeners`), 0) AS `listeners`,
    COALESCE(SUM(`t40`.`listens`), 0) AS `listens`,
    COALESCE(SUM(`t40`.`skips`), 0) AS `skips`
  FROM t40 AS t40
  GROUP BY
    1,
    2,
    3,
    4,
    5,
    6,
    7
), t42 AS (
  SELECT
    `t41`.`day`,
    `t41`.`track_id`,
    `t41`.`artist_id`,
    `t41`.`genre`,
    `t41`.`uploaded_at`,
    `t41`.`number`,
    `t41`.`born`,
    `t41`.`exposures`,
    `t41`.`relevant`,
    `t41`.`listeners`,
    `t41`.`listens`,
    `t41`.`skips`,
    ieee_divide(
      CAST(SUM(`t41`.`listens`) OVER (PARTITION BY `t41`.`day` ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS FLOAT64) + 0.1 * 20.0,
      CAST(SUM(`t41`.`exposures`) OVER (PARTITION BY `t41`.`day` ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS FLOAT64) + 20.0
    ) AS `overall`
  FROM t41 AS t41
), t43 AS (
  SELECT
    `t42`.`day`,
    `t42`.`track_id`,
    `t42`.`artist_id`,
    `t42`.`genre`,
    `t42`.`uploaded_at`,
    `t42`.`number`,
    `t42`.`born`,
    `t42`.`exposures`,
    `t42`.`relevant`,
    `t42`.`listeners`,
    `t42`.`listens`,
    `t42`.`skips`,
    `t42`.`overall`,
    ieee_divide(
      CAST(SUM(`t42`.`listens`) OVER (
        PARTITION BY `t42`.`day`, `t42`.`genre`
        ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
      ) AS FLOAT64) + `t42`.`overall` * 20.0,
      CAST(SUM(`t42`.`exposures`) OVER (
        PARTITION BY `t42`.`day`, `t42`.`genre`
        ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
      ) AS FLOAT64) + 20.0
    ) AS `prior`
  FROM t42 AS t42
), t44 AS (
  SELECT
    `t43`.`day`,
    `t43`.`track_id`,
    `t43`.`artist_id`,
    `t43`.`genre`,
    `t43`.`uploaded_at`,
    `t43`.`number`,
    `t43`.`born`,
    `t43`.`exposures`,
    `t43`.`relevant`,
    `t43`.`listeners`,
    `t43`.`listens`,
    `t43`.`skips`,
    `t43`.`overall`,
    `t43`.`prior`,
    ieee_divide(
      CAST(`t43`.`listens` AS FLOAT64) + `t43`.`prior` * 20.0,
      CAST(`t43`.`exposures` AS FLOAT64) + 20.0
    ) AS `rate`
  FROM t43 AS t43
)
SELECT
  `t44`.`day`,
  `t44`.`track_id`,
  `t44`.`artist_id`,
  `t44`.`genre`,
  `t44`.`uploaded_at`,
  CAST((
    `t44`.`born` + 13
  ) - `t44`.`number` AS INT64) AS `days_left`,
  `t44`.`exposures`,
  `t44`.`relevant`,
  `t44`.`listeners`,
  `t44`.`listens`,
  `t44`.`skips`,
  `t44`.`prior`,
  `t44`.`rate`,
  `t44`.`rate` + SQRT(
    ieee_divide(
      `t44`.`rate` * (
        1.0 - `t44`.`rate`
      ),
      CAST(`t44`.`exposures` AS FLOAT64) + 20.0 + 1.0
    )
  ) * 1.645 AS `upper`,
  IF(
    `t44`.`exposures` >= 20
    AND (
      `t44`.`rate` + (
        SQRT(
          ieee_divide(
            `t44`.`rate` * (
              1.0 - `t44`.`rate`
            ),
            CAST(`t44`.`exposures` AS FLOAT64) + 20.0 + 1.0
          )
        ) * 1.645
      )
    ) < (
      `t44`.`prior` * 0.5
    ),
    'listened to far less than its genre',
    CAST(NULL AS STRING)
  ) AS `paused`
FROM t44 AS t44
WHERE
  `t44`.`day` BETWEEN CAST('2026-11-02' AS DATE) AND CAST('2026-11-02' AS DATE);

MERGE `debuts` AS kept
USING (
  SELECT
    *
  FROM `debuts_staged` AS `t0`
) AS new
ON FALSE
WHEN NOT MATCHED BY SOURCE AND kept.`day` BETWEEN DATE '2026-11-02' AND DATE '2026-11-02' THEN DELETE
WHEN NOT MATCHED BY TARGET THEN INSERT (`day`, `track_id`, `artist_id`, `genre`, `uploaded_at`, `days_left`, `exposures`, `relevant`, `listeners`, `listens`, `skips`, `prior`, `rate`, `upper`, `paused`) VALUES (`day`, `track_id`, `artist_id`, `genre`, `uploaded_at`, `days_left`, `exposures`, `relevant`, `listeners`, `listens`, `skips`, `prior`, `rate`, `upper`, `paused`);
