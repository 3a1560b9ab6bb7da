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
), t9 AS (
  SELECT
    `t7`.`day`,
    `t7`.`event_id`
  FROM t7 AS t7
  WHERE
    `t7`.`CountStar` > 1
), t10 AS (
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
      FROM t9 AS t9
      WHERE
        `t6`.`day` = `t9`.`day` AND `t6`.`event_id` = `t9`.`event_id`
    )
), t11 AS (
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
      FROM t9 AS t9
      WHERE
        `t6`.`day` = `t9`.`day` AND `t6`.`event_id` = `t9`.`event_id`
    )
), t12 AS (
  SELECT
    `t11`.`day`,
    `t11`.`event_id`,
    `t11`.`ts`,
    `t11`.`received_at`,
    `t11`.`user_id`,
    `t11`.`session_id`,
    `t11`.`type`,
    `t11`.`track_id`,
    `t11`.`artist_id`,
    `t11`.`ms_played`,
    `t11`.`surface`,
    `t11`.`position`,
    `t11`.`request_id`,
    `t11`.`playlist_id`,
    `t11`.`query`,
    `t11`.`country`,
    `t11`.`device`,
    ROW_NUMBER() OVER (
      PARTITION BY `t11`.`day`, `t11`.`event_id`
      ORDER BY `t11`.`received_at` ASC, `t11`.`ts` ASC, `t11`.`user_id` ASC, `t11`.`session_id` ASC, `t11`.`type` ASC, `t11`.`track_id` ASC, `t11`.`artist_id` ASC, `t11`.`ms_played` ASC, `t11`.`surface` ASC, `t11`.`position` ASC, `t11`.`request_id` ASC, `t11`.`playlist_id` ASC, `t11`.`query` ASC, `t11`.`country` ASC, `t11`.`device` ASC
    ) - 1 AS `nth`
  FROM t11 AS t11
), t13 AS (
  SELECT
    *
  FROM t12 AS t12
  WHERE
    `t12`.`nth` = 0
), t14 AS (
  SELECT
    `t13`.*
    EXCEPT (`nth`)
  FROM t13 AS t13
), t15 AS (
  SELECT
    *
  FROM t10 AS t10
  UNION ALL
  SELECT
    *
  FROM t14 AS t14
), t16 AS (
  SELECT
    `t15`.`day`,
    `t15`.`event_id`,
    `t15`.`ts`,
    `t15`.`received_at`,
    `t15`.`user_id`,
    `t15`.`session_id`,
    `t15`.`type`,
    `t15`.`track_id`,
    `t15`.`artist_id`,
    `t15`.`ms_played`,
    `t15`.`surface`,
    `t15`.`position`,
    `t15`.`request_id`,
    `t15`.`playlist_id`,
    `t15`.`query`,
    `t15`.`country`,
    `t15`.`device`,
    LAG(`t15`.`ts`, 1) OVER (
      PARTITION BY `t15`.`user_id`, `t15`.`session_id`
      ORDER BY `t15`.`ts` ASC, `t15`.`event_id` ASC
    ) AS `before`,
    MIN(`t15`.`ts`) OVER (
      PARTITION BY `t15`.`user_id`, `t15`.`session_id`
      ORDER BY `t15`.`ts` - (
        MOD(`t15`.`ts`, 86400000000)
      ) ASC
      RANGE BETWEEN 86400000000 preceding AND CURRENT ROW
    ) AS `earliest`
  FROM t15 AS t15
), t17 AS (
  SELECT
    `t16`.`day`,
    `t16`.`event_id`,
    `t16`.`ts`,
    `t16`.`received_at`,
    `t16`.`user_id`,
    `t16`.`session_id`,
    `t16`.`type`,
    `t16`.`track_id`,
    `t16`.`artist_id`,
    `t16`.`ms_played`,
    `t16`.`surface`,
    `t16`.`position`,
    `t16`.`request_id`,
    `t16`.`playlist_id`,
    `t16`.`query`,
    `t16`.`country`,
    `t16`.`device`,
    `t16`.`before`,
    `t16`.`earliest`,
    IF(
      `t16`.`session_id` IS NULL
      AND (
        `t16`.`before` IS NULL OR (
          `t16`.`ts` - `t16`.`before`
        ) >= 1800000000
      ),
      `t16`.`ts`,
      CAST(NULL AS INT64)
    ) AS `begin`
  FROM t16 AS t16
), t18 AS (
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
    `t17`.`before`,
    `t17`.`earliest`,
    `t17`.`begin`,
    GREATEST(
      `t17`.`earliest`,
      COALESCE(
        MAX(`t17`.`begin`) OVER (
          PARTITION BY `t17`.`user_id`, `t17`.`session_id`
          ORDER BY `t17`.`ts` ASC, `t17`.`event_id` ASC
          ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
        ),
        `t17`.`earliest`
      )
    ) AS `session_start`
  FROM t17 AS t17
), t20 AS (
  SELECT
    `t18`.*
    EXCEPT (`before`, `begin`, `earliest`)
  FROM t18 AS t18
), t3 AS (
  SELECT
    `t0`.`track_id`,
    `t0`.`artist_id` AS `its_artist`,
    `t0`.`duration_ms` AS `length`
  FROM `tracks` AS `t0`
), t21 AS (
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
    `t20`.`session_start`,
    `t3`.`track_id` AS `track_id_right`,
    `t3`.`its_artist`,
    `t3`.`length`
  FROM t20 AS t20
  LEFT OUTER JOIN t3 AS t3
    ON `t20`.`track_id` = `t3`.`track_id`
), t22 AS (
  SELECT
    `t21`.*
    EXCEPT (`track_id_right`)
  FROM t21 AS t21
)
SELECT
  `t22`.`day`,
  `t22`.`event_id`,
  `t22`.`ts`,
  `t22`.`received_at`,
  `t22`.`user_id`,
  `t22`.`session_id`,
  `t22`.`type`,
  `t22`.`track_id`,
  COALESCE(`t22`.`artist_id`, `t22`.`its_artist`) AS `artist_id`,
  `t22`.`ms_played`,
  `t22`.`surface`,
  `t22`.`position`,
  `t22`.`request_id`,
  `t22`.`playlist_id`,
  `t22`.`query`,
  `t22`.`country`,
  `t22`.`device`,
  `t22`.`session_start`,
  `t22`.`type` = 'play'
  AND (
    `t22`.`ms_played` IS NULL
    OR `t22`.`ms_played` >= 30000
    OR COALESCE(`t22`.`length` > 0 AND `t22`.`ms_played` >= (
      `t22`.`length` - 2000
    ), FALSE)
  ) AS `listened`,
  (
    `t22`.`type` = 'play'
    AND NOT (
      `t22`.`type` = 'play'
      AND (
        `t22`.`ms_played` IS NULL
        OR `t22`.`ms_played` >= 30000
        OR COALESCE(`t22`.`length` > 0 AND `t22`.`ms_played` >= (
          `t22`.`length` - 2000
        ), FALSE)
      )
    )
  )
  OR `t22`.`type` = 'skip' AS `skipped`
FROM t22 AS t22
WHERE
  `t22`.`day` BETWEEN CAST('2026-11-02' AS DATE) AND CAST('2026-11-02' AS DATE);

MERGE `events` AS kept
USING (
  SELECT
    *
  FROM `events_staged` AS `t0`
) AS new
ON FALSE
WHEN NOT MATCHED BY SOURCE AND kept.`day` BETWEEN DATE '2026-11-02' AND DATE '2026-11-02' THEN DELETE
WHEN NOT MATCHED BY TARGET THEN INSERT (`day`, `event_id`, `ts`, `received_at`, `user_id`, `session_id`, `type`, `track_id`, `artist_id`, `ms_played`, `surface`, `position`, `request_id`, `playlist_id`, `query`, `country`, `device`, `session_start`, `listened`, `skipped`) VALUES (`day`, `event_id`, `ts`, `received_at`, `user_id`, `session_id`, `type`, `track_id`, `artist_id`, `ms_played`, `surface`, `position`, `request_id`, `playlist_id`, `query`, `country`, `device`, `session_start`, `listened`, `skipped`);
