SELECT
  `t0`.`user_id`,
  `t0`.`track_id`,
  `t0`.`ts`,
  `t0`.`session_start`
FROM `events` AS `t0`
WHERE
  `t0`.`day` BETWEEN CAST('2025-10-05' AS DATE) AND CAST('2026-11-02' AS DATE)
  AND `t0`.`type` = 'play'
  AND `t0`.`track_id` IS NOT NULL
  AND `t0`.`listened`
  AND `t0`.`ts` < 1793620800000000;
