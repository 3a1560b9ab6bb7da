-- listens 2026-11-02..2026-11-02 on bigquery; reads events 2026-11-02..2026-11-02
CREATE TABLE IF NOT EXISTS `listens` (
  `day` DATE NOT NULL OPTIONS (description = 'UTC date of `ts`; the partition'),
  `ts` INT64 NOT NULL OPTIONS (description = 'when it happened, UTC microseconds'),
  `user_id` INT64 NOT NULL OPTIONS (description = 'the listener'),
  `track_id` INT64 NOT NULL OPTIONS (description = 'the track'),
  `artist_id` INT64 OPTIONS (description = 'the artist, where known'),
  `session_start` INT64 NOT NULL OPTIONS (description = 'UTC microseconds'),
  `ms_played` INT64 OPTIONS (description = 'milliseconds'),
  `surface` STRING OPTIONS (description = 'where it was played from'),
  `country` STRING OPTIONS (description = 'ISO 3166 alpha-2 code, upper case')
)
PARTITION BY `day`
CLUSTER BY `user_id`, `ts`
OPTIONS (description = 'Plays of 30 s or more, or to the track\'s end: the unit of liking something enough to stay.');

CREATE OR REPLACE TABLE `listens_staged`
OPTIONS (expiration_timestamp = TIMESTAMP_ADD(CURRENT_TIMESTAMP(), INTERVAL 1 DAY))
AS
SELECT
  `t0`.`day`,
  `t0`.`ts`,
  `t0`.`user_id`,
  `t0`.`track_id`,
  `t0`.`artist_id`,
  `t0`.`session_start`,
  `t0`.`ms_played`,
  `t0`.`surface`,
  `t0`.`country`
FROM `events` AS `t0`
WHERE
  `t0`.`day` BETWEEN CAST('2026-11-02' AS DATE) AND CAST('2026-11-02' AS DATE)
  AND `t0`.`listened`
  AND `t0`.`track_id` IS NOT NULL;

MERGE `listens` AS kept
USING (
  SELECT
    *
  FROM `listens_staged` AS `t0`
) AS new
ON FALSE
WHEN NOT MATCHED BY SOURCE AND kept.`day` BETWEEN DATE '2026-11-02' AND DATE '2026-11-02' THEN DELETE
WHEN NOT MATCHED BY TARGET THEN INSERT (`day`, `ts`, `user_id`, `track_id`, `artist_id`, `session_start`, `ms_played`, `surface`, `country`) VALUES (`day`, `ts`, `user_id`, `track_id`, `artist_id`, `session_start`, `ms_played`, `surface`, `country`);
