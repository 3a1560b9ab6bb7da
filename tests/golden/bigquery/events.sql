-- events 2026-11-02..2026-11-02 on bigquery; reads raw_events 2026-11-01..2026-11-02, tracks whole
CREATE TABLE IF NOT EXISTS `events` (
  `day` DATE NOT NULL OPTIONS (description = 'UTC date of `ts`; the partition'),
  `event_id` BYTES NOT NULL OPTIONS (description = 'UUIDv7, 16 bytes: the idempotency key'),
  `ts` INT64 NOT NULL OPTIONS (description = 'when it happened, UTC microseconds'),
  `received_at` INT64 NOT NULL OPTIONS (description = 'when the platform got it, UTC microseconds'),
  `user_id` INT64 NOT NULL OPTIONS (description = 'the listener'),
  `session_id` INT64 OPTIONS (description = 'the client\'s session, where it names one'),
  `type` STRING NOT NULL OPTIONS (description = 'what happened'),
  `track_id` INT64 OPTIONS (description = 'the track, where the type has one'),
  `artist_id` INT64 OPTIONS (description = 'the artist, where known'),
  `ms_played` INT64 OPTIONS (description = 'how long it played, milliseconds'),
  `surface` STRING OPTIONS (description = 'where it was shown or played from'),
  `position` INT64 OPTIONS (description = 'slot on that surface, from 0'),
  `request_id` BYTES OPTIONS (description = 'the recommendation it answers'),
  `playlist_id` INT64 OPTIONS (description = 'the playlist of a playlist_add'),
  `query` STRING OPTIONS (description = 'the words of a search'),
  `country` STRING OPTIONS (description = 'ISO 3166 alpha-2 code, upper case'),
  `device` STRING OPTIONS (description = 'phone, desktop, speaker, ...'),
  `session_start` INT64 NOT NULL OPTIONS (description = 'start of the session it belongs to, UTC microseconds; with user_id it names the session'),
  `listened` BOOL NOT NULL OPTIONS (description = 'a play of 30 s or more, or to the track\'s end'),
  `skipped` BOOL NOT NULL OPTIONS (description = 'a play given up before that, or a skip')
)
PARTITION BY `day`
CLUSTER BY `user_id`, `ts`
OPTIONS (description = 'Clean events: one row an event_id, artist filled in, sessions cut, plays judged.');

CREATE OR REPLACE TABLE `events_staged`
OPTIONS (expiration_timestamp = TIMESTAMP_ADD(CURRENT_TIMESTAMP(), INTERVAL 1 DAY))
AS
WITH `t4` AS (
  SELECT
    *
  FROM `raw_events` AS `t1`
  WHERE
    `t1`.`day` BETWEEN CAST('2026-11-01' AS DATE) AND CAST('2026-11-02' AS DATE)
), t7 AS (
  SELECT
    `t5`.`day`,
    `t5`.`event_id`,
    COUNT(*) AS `CountStar`
  FROM `t4` AS `t5`
  GROUP BY
    1,
    2
), `t8` AS (
  SELECT
    `t7`.`day`,
    `t7`.`event_id`
  FROM t7 AS t7
  WHERE
    `t7`.`CountStar` > 1
), t12 AS (
  SELECT
    `t6`.`day`,
    `t6`.`event_id`,
    `t6`.`ts`,
    `t6`.`received_at`,
    `t6`.`user_id`,
    `t6`.`session_id`,
    `t6`.`type`,
    `t6`.`track_id`,
    `t6`.`artist_id`,
    `t6`.`ms_played`,
    `t6`.`surface`,
    `t6`.`position`,
    `t6`.`request_id`,
    `t6`.`playlist_id`,
    `t6`.`query`,
    `t6`.`country`,
    `t6`.`device`
  FROM `t4` AS `t6`
  WHERE
    NOT EXISTS(
      SELECT
        1
      FROM `t8` AS `t10`
      WHERE
        `t6`.`day` = `t10`.`day` AND `t6`.`event_id` = `t10`.`event_id`
    )
), t13 AS (
  SELECT
    `t6`.`day`,
    `t6`.`event_id`,
    `t6`.`ts`,
    `t6`.`received_at`,
    `t6`.`user_id`,
    `t6`.`session_id`,
    `t6`.`type`,
    `t6`.`track_id`,
    `t6`.`artist_id`,
    `t6`.`ms_played`,
    `t6`.`surface`,
    `t6`.`position`,
    `t6`.`request_id`,
    `t6`.`playlist_id`,
    `t6`.`query`,
    `t6`.`country`,
    `t6`.`device`
  FROM `t4` AS `t6`
  WHERE
    EXISTS(
      SELECT
        1
      FROM `t8` AS `t11`
      WHERE
        `t6`.`day` = `t11`.`day` AND `t6`.`event_id` = `t11`.`event_id`
    )
), t14 AS (
  SELECT
    `t13`.`day`,
    `t13`.`event_id`,
    `t13`.`ts`,
    `t13`.`received_at`,
    `t13`.`user_id`,
    `t13`.`session_id`,
    `t13`.`type`,
    `t13`.`track_id`,
    `t13`.`artist_id`,
    `t13`.`ms_played`,
    `t13`.`surface`,
    `t13`.`position`,
    `t13`.`request_id`,
    `t13`.`playlist_id`,
    `t13`.`query`,
    `t13`.`country`,
    `t13`.`device`,
    ROW_NUMBER() OVER (
      PARTITION BY `t13`.`day`, `t13`.`event_id`
      ORDER BY `t13`.`received_at` ASC, `t13`.`ts` ASC, `t13`.`user_id` ASC, `t13`.`session_id` ASC, `t13`.`type` ASC, `t13`.`track_id` ASC, `t13`.`artist_id` ASC, `t13`.`ms_played` ASC, `t13`.`surface` ASC, `t13`.`position` ASC, `t13`.`request_id` ASC, `t13`.`playlist_id` ASC, `t13`.`query` ASC, `t13`.`country` ASC, `t13`.`device` ASC
    ) - 1 AS `nth`
  FROM t13 AS t13
), t15 AS (
  SELECT
    *
  FROM t14 AS t14
  WHERE
    `t14`.`nth` = 0
), t16 AS (
  SELECT
    `t15`.*
    EXCEPT (`nth`)
  FROM t15 AS t15
), t17 AS (
  SELECT
    *
  FROM t12 AS t12
  UNION ALL
  SELECT
    *
  FROM t16 AS t16
), `t18` AS (
  SELECT
    `t17`.`day`,
    `t17`.`event_id`,
    `t17`.`ts`,
    `t17`.`received_at`,
    `t17`.`user_id`,
    `t17`.`session_id`,
    `t17`.`type`,
    `t17`.`track_id`,
    `t17`.`artist_id`,
    `t17`.`ms_played`,
    `t17`.`surface`,
    `t17`.`position`,
    `t17`.`request_id`,
    `t17`.`playlist_id`,
    `t17`.`query`,
    `t17`.`country`,
    `t17`.`device`,
    COALESCE(`t17`.`session_id`, -1) AS `stream`,
    IF(
      `t17`.`session_id` IS NULL,
      `t17`.`ts`,
      `t17`.`ts` - (
        MOD(`t17`.`ts`, 86400000000)
      )
    ) AS `moment`
  FROM t17 AS t17
), t21 AS (
  SELECT
    `t19`.`user_id`,
    `t19`.`stream`,
    `t19`.`moment`,
    MIN(`t19`.`ts`) AS `ts`
  FROM `t18` AS `t19`
  GROUP BY
    1,
    2,
    3
), t22 AS (
  SELECT
    `t21`.`user_id`,
    `t21`.`stream`,
    `t21`.`moment`,
    `t21`.`ts`,
    LAG(`t21`.`ts`, 1) OVER (PARTITION BY `t21`.`user_id`, `t21`.`stream` ORDER BY `t21`.`ts` ASC) AS `before`,
    MIN(`t21`.`ts`) OVER (
      PARTITION BY `t21`.`user_id`, `t21`.`stream`
      ORDER BY `t21`.`ts` - (
        MOD(`t21`.`ts`, 86400000000)
      ) ASC
      RANGE BETWEEN 86400000000 preceding AND CURRENT ROW
    ) AS `earliest`
  FROM t21 AS t21
), t23 AS (
  SELECT
    `t22`.`user_id`,
    `t22`.`stream`,
    `t22`.`moment`,
    `t22`.`ts`,
    `t22`.`before`,
    `t22`.`earliest`,
    IF(
      `t22`.`stream` = -1
      AND (
        `t22`.`before` IS NULL OR (
          `t22`.`ts` - `t22`.`before`
        ) >= 1800000000
      ),
      `t22`.`ts`,
      CAST(NULL AS INT64)
    ) AS `begin`
  FROM t22 AS t22
), t25 AS (
  SELECT
    `t23`.`user_id`,
    `t23`.`stream`,
    `t23`.`moment`,
    GREATEST(
      `t23`.`earliest`,
      COALESCE(
        MAX(`t23`.`begin`) OVER (
          PARTITION BY `t23`.`user_id`, `t23`.`stream`
          ORDER BY `t23`.`ts` ASC
          ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
        ),
        `t23`.`earliest`
      )
    ) AS `session_start`
  FROM t23 AS t23
), t26 AS (
  SELECT
    `t20`.`day`,
    `t20`.`event_id`,
    `t20`.`ts`,
    `t20`.`received_at`,
    `t20`.`user_id`,
    `t20`.`session_id`,
    `t20`.`type`,
    `t20`.`track_id`,
    `t20`.`artist_id`,
    `t20`.`ms_played`,
    `t20`.`surface`,
    `t20`.`position`,
    `t20`.`request_id`,
    `t20`.`playlist_id`,
    `t20`.`query`,
    `t20`.`country`,
    `t20`.`device`,
    `t20`.`stream`,
    `t20`.`moment`,
    `t25`.`session_start`
  FROM `t18` AS `t20`
  INNER JOIN t25 AS t25
    ON `t20`.`user_id` = `t25`.`user_id`
    AND `t20`.`stream` = `t25`.`stream`
    AND `t20`.`moment` = `t25`.`moment`
), t28 AS (
  SELECT
    `t26`.*
    EXCEPT (`moment`, `stream`)
  FROM t26 AS t26
), t3 AS (
  SELECT
    `t0`.`track_id`,
    `t0`.`artist_id` AS `its_artist`,
    `t0`.`duration_ms` AS `length`
  FROM `tracks` AS `t0`
), t29 AS (
  SELECT
    `t28`.`day`,
    `t28`.`event_id`,
    `t28`.`ts`,
    `t28`.`received_at`,
    `t28`.`user_id`,
    `t28`.`session_id`,
    `t28`.`type`,
    `t28`.`track_id`,
    `t28`.`artist_id`,
    `t28`.`ms_played`,
    `t28`.`surface`,
    `t28`.`position`,
    `t28`.`request_id`,
    `t28`.`playlist_id`,
    `t28`.`query`,
    `t28`.`country`,
    `t28`.`device`,
    `t28`.`session_start`,
    `t3`.`track_id` AS `track_id_right`,
    `t3`.`its_artist`,
    `t3`.`length`
  FROM t28 AS t28
  LEFT OUTER JOIN t3 AS t3
    ON `t28`.`track_id` = `t3`.`track_id`
), t30 AS (
  SELECT
    `t29`.*
    EXCEPT (`track_id_right`)
  FROM t29 AS t29
)
SELECT
  `t30`.`day`,
  `t30`.`event_id`,
  `t30`.`ts`,
  `t30`.`received_at`,
  `t30`.`user_id`,
  `t30`.`session_id`,
  `t30`.`type`,
  `t30`.`track_id`,
  COALESCE(`t30`.`artist_id`, `t30`.`its_artist`) AS `artist_id`,
  `t30`.`ms_played`,
  `t30`.`surface`,
  `t30`.`position`,
  `t30`.`request_id`,
  `t30`.`playlist_id`,
  `t30`.`query`,
  `t30`.`country`,
  `t30`.`device`,
  `t30`.`session_start`,
  `t30`.`type` = 'play'
  AND (
    `t30`.`ms_played` IS NULL
    OR `t30`.`ms_played` >= 30000
    OR COALESCE(`t30`.`length` > 0 AND `t30`.`ms_played` >= (
      `t30`.`length` - 2000
    ), FALSE)
  ) AS `listened`,
  (
    `t30`.`type` = 'play'
    AND NOT (
      `t30`.`type` = 'play'
      AND (
        `t30`.`ms_played` IS NULL
        OR `t30`.`ms_played` >= 30000
        OR COALESCE(`t30`.`length` > 0 AND `t30`.`ms_played` >= (
          `t30`.`length` - 2000
        ), FALSE)
      )
    )
  )
  OR `t30`.`type` = 'skip' AS `skipped`
FROM t30 AS t30
WHERE
  `t30`.`day` BETWEEN CAST('2026-11-02' AS DATE) AND CAST('2026-11-02' AS DATE);

MERGE `events` AS kept
USING (
  SELECT
    *
  FROM `events_staged` AS `t0`
) AS new
ON FALSE
WHEN NOT MATCHED BY SOURCE AND kept.`day` BETWEEN DATE '2026-11-02' AND DATE '2026-11-02' THEN DELETE
WHEN NOT MATCHED BY TARGET THEN INSERT (`day`, `event_id`, `ts`, `received_at`, `user_id`, `session_id`, `type`, `track_id`, `artist_id`, `ms_played`, `surface`, `position`, `request_id`, `playlist_id`, `query`, `country`, `device`, `session_start`, `listened`, `skipped`) VALUES (`day`, `event_id`, `ts`, `received_at`, `user_id`, `session_id`, `type`, `track_id`, `artist_id`, `ms_played`, `surface`, `position`, `request_id`, `playlist_id`, `query`, `country`, `device`, `session_start`, `listened`, `skipped`);
