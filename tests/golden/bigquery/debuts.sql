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
WITH t5 AS (
  SELECT
    *
  FROM `outcomes` AS `t0`
  WHERE
    `t0`.`day` BETWEEN CAST('2026-10-20' AS DATE) AND CAST('2026-11-02' AS DATE)
), t6 AS (
  SELECT
    `t1`.`track_id`,
    `t1`.`uploaded_at`
  FROM `tracks` AS `t1`
  WHERE
    `t1`.`public` AND `t1`.`uploaded_at` IS NOT NULL
), t11 AS (
  SELECT
    `t5`.`day`,
    `t5`.`request_id`,
    `t5`.`ts`,
    `t5`.`user_id`,
    `t5`.`surface`,
    `t5`.`position`,
    `t5`.`track_id`,
    `t5`.`propensity`,
    `t5`.`played`,
    `t5`.`listened`,
    `t5`.`skipped`,
    `t5`.`liked`,
    `t5`.`hidden`,
    `t5`.`ms_played`,
    `t6`.`uploaded_at`
  FROM t5 AS t5
  INNER JOIN t6 AS t6
    ON `t5`.`track_id` = `t6`.`track_id`
), t16 AS (
  SELECT
    `t11`.`request_id`,
    `t11`.`position`,
    `t11`.`ts`,
    `t11`.`user_id`,
    `t11`.`track_id`,
    `t11`.`listened`,
    `t11`.`skipped`
  FROM t11 AS t11
  WHERE
    `t11`.`ts` >= `t11`.`uploaded_at`
    AND `t11`.`ts` < (
      `t11`.`uploaded_at` + 1209600000000
    )
), t15 AS (
  SELECT
    `t2`.`request_id`,
    `t2`.`position`,
    COALESCE(
      EXISTS(
        SELECT
          1
        FROM UNNEST(`t2`.`sources`) AS element
        WHERE
          element = 'debuts'
      )
      OR EXISTS(
        SELECT
          1
        FROM UNNEST(`t2`.`sources`) AS element
        WHERE
          element = 'fresh'
      )
      OR EXISTS(
        SELECT
          1
        FROM UNNEST(`t2`.`sources`) AS element
        WHERE
          element = 'fold_in'
      )
      OR EXISTS(
        SELECT
          1
        FROM UNNEST(`t2`.`sources`) AS element
        WHERE
          element = 'graph'
      )
      OR EXISTS(
        SELECT
          1
        FROM UNNEST(`t2`.`sources`) AS element
        WHERE
          element = 'co_listened'
      )
      OR EXISTS(
        SELECT
          1
        FROM UNNEST(`t2`.`sources`) AS element
        WHERE
          element = 'followed'
      )
      OR EXISTS(
        SELECT
          1
        FROM UNNEST(`t2`.`sources`) AS element
        WHERE
          element = 'session_knn'
      )
      OR EXISTS(
        SELECT
          1
        FROM UNNEST(`t2`.`sources`) AS element
        WHERE
          element = 'similar'
      ),
      FALSE
    ) AS `proposed`
  FROM `exposures` AS `t2`
  WHERE
    `t2`.`day` BETWEEN CAST('2026-10-20' AS DATE) AND CAST('2026-11-02' AS DATE)
), `t19` AS (
  SELECT
    `t16`.`track_id`,
    `t16`.`user_id`,
    `t16`.`listened`,
    `t16`.`skipped`,
    CAST(TRUNC(ieee_divide(`t16`.`ts` - (
      MOD(`t16`.`ts`, 86400000000)
    ), 86400000000)) AS INT64) AS `number`,
    `t15`.`proposed` AND `t16`.`user_id` IS NOT NULL AS `relevant`
  FROM t16 AS t16
  INNER JOIN t15 AS t15
    ON `t16`.`request_id` = `t15`.`request_id` AND `t16`.`position` = `t15`.`position`
), t9 AS (
  SELECT DISTINCT
    `t0`.`day`,
    CAST(TRUNC(ieee_divide(`t0`.`ts` - (
      MOD(`t0`.`ts`, 86400000000)
    ), 86400000000)) AS INT64) AS `number`
  FROM `outcomes` AS `t0`
  WHERE
    `t0`.`day` BETWEEN CAST('2026-10-20' AS DATE) AND CAST('2026-11-02' AS DATE)
), t10 AS (
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
), t12 AS (
  SELECT
    `t9`.`day`,
    `t9`.`number`,
    `t10`.`track_id`,
    `t10`.`artist_id`,
    `t10`.`genre`,
    `t10`.`uploaded_at`,
    `t10`.`born`
  FROM t9 AS t9
  CROSS JOIN t10 AS t10
), t18 AS (
  SELECT
    *
  FROM t12 AS t12
  WHERE
    `t12`.`number` >= `t12`.`born` AND `t12`.`number` < (
      `t12`.`born` + 14
    )
), t23 AS (
  SELECT
    `t20`.`track_id`,
    `t20`.`number`,
    COUNT(*) AS `exposures`,
    COUNT(NULLIF(`t20`.`relevant`, FALSE)) AS `relevant`,
    COUNT(NULLIF(`t20`.`listened`, FALSE)) AS `listens`,
    COUNT(NULLIF(`t20`.`skipped`, FALSE)) AS `skips`
  FROM `t19` AS `t20`
  GROUP BY
    1,
    2
), t21 AS (
  SELECT
    *
  FROM `t19` AS `t20`
  WHERE
    `t20`.`relevant`
), t24 AS (
  SELECT
    `t21`.`track_id`,
    `t21`.`user_id`,
    MIN(`t21`.`number`) AS `number`
  FROM t21 AS t21
  GROUP BY
    1,
    2
), t26 AS (
  SELECT
    `t24`.`track_id`,
    `t24`.`number`,
    COUNT(*) AS `listeners`
  FROM t24 AS t24
  GROUP BY
    1,
    2
), t27 AS (
  SELECT
    `t23`.`track_id`,
    `t23`.`number`,
    `t23`.`exposures`,
    `t23`.`relevant`,
    `t23`.`listens`,
    `t23`.`skips`,
    `t26`.`listeners`
  FROM t23 AS t23
  LEFT OUTER JOIN t26 AS t26
    ON `t23`.`track_id` = `t26`.`track_id` AND `t23`.`number` = `t26`.`number`
), t29 AS (
  SELECT
    `t27`.`track_id` AS `of`,
    `t27`.`number` AS `at`,
    `t27`.`exposures`,
    `t27`.`relevant`,
    `t27`.`listens`,
    `t27`.`skips`,
    `t27`.`listeners`
  FROM t27 AS t27
), t30 AS (
  SELECT
    `t18`.`day`,
    `t18`.`number`,
    `t18`.`track_id`,
    `t18`.`artist_id`,
    `t18`.`genre`,
    `t18`.`uploaded_at`,
    `t18`.`born`,
    `t29`.`of`,
    `t29`.`at`,
    `t29`.`exposures`,
    `t29`.`relevant`,
    `t29`.`listens`,
    `t29`.`skips`,
    `t29`.`listeners`
  FROM t18 AS t18
  LEFT OUTER JOIN t29 AS t29
    ON `t18`.`track_id` = `t29`.`of` AND `t29`.`at` <= `t18`.`number`
), t31 AS (
  SELECT
    `t30`.`day`,
    `t30`.`track_id`,
    `t30`.`artist_id`,
    `t30`.`genre`,
    `t30`.`uploaded_at`,
    `t30`.`number`,
    `t30`.`born`,
    COALESCE(SUM(`t30`.`exposures`), 0) AS `exposures`,
    COALESCE(SUM(`t30`.`relevant`), 0) AS `relevant`,
    COALESCE(SUM(`t30`.`listeners`), 0) AS `listeners`,
    COALESCE(SUM(`t30`.`listens`), 0) AS `listens`,
    COALESCE(SUM(`t30`.`skips`), 0) AS `skips`
  FROM t30 AS t30
  GROUP BY
    1,
    2,
    3,
    4,
    5,
    6,
    7
), t32 AS (
  SELECT
    `t31`.`day`,
    `t31`.`track_id`,
    `t31`.`artist_id`,
    `t31`.`genre`,
    `t31`.`uploaded_at`,
    `t31`.`number`,
    `t31`.`born`,
    `t31`.`exposures`,
    `t31`.`relevant`,
    `t31`.`listeners`,
    `t31`.`listens`,
    `t31`.`skips`,
    ieee_divide(
      CAST(SUM(`t31`.`listens`) OVER (PARTITION BY `t31`.`day` ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS FLOAT64) + 0.1 * 20.0,
      CAST(SUM(`t31`.`exposures`) OVER (PARTITION BY `t31`.`day` ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS FLOAT64) + 20.0
    ) AS `overall`
  FROM t31 AS t31
), t33 AS (
  SELECT
    `t32`.`day`,
    `t32`.`track_id`,
    `t32`.`artist_id`,
    `t32`.`genre`,
    `t32`.`uploaded_at`,
    `t32`.`number`,
    `t32`.`born`,
    `t32`.`exposures`,
    `t32`.`relevant`,
    `t32`.`listeners`,
    `t32`.`listens`,
    `t32`.`skips`,
    `t32`.`overall`,
    ieee_divide(
      CAST(SUM(`t32`.`listens`) OVER (
        PARTITION BY `t32`.`day`, `t32`.`genre`
        ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
      ) AS FLOAT64) + `t32`.`overall` * 20.0,
      CAST(SUM(`t32`.`exposures`) OVER (
        PARTITION BY `t32`.`day`, `t32`.`genre`
        ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
      ) AS FLOAT64) + 20.0
    ) AS `prior`
  FROM t32 AS t32
), t34 AS (
  SELECT
    `t33`.`day`,
    `t33`.`track_id`,
    `t33`.`artist_id`,
    `t33`.`genre`,
    `t33`.`uploaded_at`,
    `t33`.`number`,
    `t33`.`born`,
    `t33`.`exposures`,
    `t33`.`relevant`,
    `t33`.`listeners`,
    `t33`.`listens`,
    `t33`.`skips`,
    `t33`.`overall`,
    `t33`.`prior`,
    ieee_divide(
      CAST(`t33`.`listens` AS FLOAT64) + `t33`.`prior` * 20.0,
      CAST(`t33`.`exposures` AS FLOAT64) + 20.0
    ) AS `rate`
  FROM t33 AS t33
)
SELECT
  `t34`.`day`,
  `t34`.`track_id`,
  `t34`.`artist_id`,
  `t34`.`genre`,
  `t34`.`uploaded_at`,
  CAST((
    `t34`.`born` + 13
  ) - `t34`.`number` AS INT64) AS `days_left`,
  `t34`.`exposures`,
  `t34`.`relevant`,
  `t34`.`listeners`,
  `t34`.`listens`,
  `t34`.`skips`,
  `t34`.`prior`,
  `t34`.`rate`,
  `t34`.`rate` + SQRT(
    ieee_divide(
      `t34`.`rate` * (
        1.0 - `t34`.`rate`
      ),
      CAST(`t34`.`exposures` AS FLOAT64) + 20.0 + 1.0
    )
  ) * 1.645 AS `upper`,
  IF(
    `t34`.`exposures` >= 20
    AND (
      `t34`.`rate` + (
        SQRT(
          ieee_divide(
            `t34`.`rate` * (
              1.0 - `t34`.`rate`
            ),
            CAST(`t34`.`exposures` AS FLOAT64) + 20.0 + 1.0
          )
        ) * 1.645
      )
    ) < (
      `t34`.`prior` * 0.5
    ),
    'listened to far less than its genre',
    CAST(NULL AS STRING)
  ) AS `paused`
FROM t34 AS t34
WHERE
  `t34`.`day` BETWEEN CAST('2026-11-02' AS DATE) AND CAST('2026-11-02' AS DATE);

MERGE `debuts` AS kept
USING (
  SELECT
    *
  FROM `debuts_staged` AS `t0`
) AS new
ON FALSE
WHEN NOT MATCHED BY SOURCE AND kept.`day` BETWEEN DATE '2026-11-02' AND DATE '2026-11-02' THEN DELETE
WHEN NOT MATCHED BY TARGET THEN INSERT (`day`, `track_id`, `artist_id`, `genre`, `uploaded_at`, `days_left`, `exposures`, `relevant`, `listeners`, `listens`, `skips`, `prior`, `rate`, `upper`, `paused`) VALUES (`day`, `track_id`, `artist_id`, `genre`, `uploaded_at`, `days_left`, `exposures`, `relevant`, `listeners`, `listens`, `skips`, `prior`, `rate`, `upper`, `paused`);
