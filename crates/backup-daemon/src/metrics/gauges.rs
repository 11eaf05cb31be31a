//! Every gauge: its name, its labels, its meaning. Names follow the conventions of Prometheus: base
//! units, which are the end of the name. `backup_status`, `restore_progress` and `storage_usage`
//! are called what those call them who asked for them.

/// A gauge, with so many labels.
#[derive(Debug)]
pub(super) struct Gauge {
    pub(super) name: &'static str,
    pub(super) labels: &'static [&'static str],
    pub(super) help: &'static str,
}

/// Defines gauges, and the list of all of them.
macro_rules! gauges {
    ($($id:ident = $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(pub(super) const $id: Gauge = Gauge { name: $name, labels: &[$($label),*], help: $help };)*
        /// All of them.
        pub(super) const ALL: &[&Gauge] = &[$(&$id),*];
    };
}

gauges! {
    STATUS = "backup_status" ["backup_job", "state"]
        "1 for the state of the newest backup of a job, 0 for the others: none, running, \
         verified, failed, cancelled.";
    LAST_SUCCESS = "backup_last_success_timestamp_seconds" ["backup_job"]
        "Start of the last successful backup.";
    AGE = "backup_age_seconds" ["backup_job"] "Time since the start of the last successful backup.";
    DURATION = "backup_last_duration_seconds" ["backup_job"]
        "Duration of the last successful backup.";
    SIZE = "backup_last_size_bytes" ["backup_job"]
        "Size of the data in the snapshot of the last successful backup.";
    STORED = "backup_last_stored_bytes" ["backup_job"]
        "Bytes that the last successful backup added to the repository.";
    CLOCK_OFFSET = "backup_clock_offset_seconds" ["backup_job", "clock"]
        "Seconds by which another clock was ahead of that of the machine at the last successful \
         backup. `store`: of the store, absent for a directory. `server`: of the database server, \
         absent for files.";
    CLOCK_MEASURED = "backup_clock_measured_timestamp_seconds" ["backup_job"]
        "Start of the backup that measured `backup_clock_offset_seconds`.";
    REDUCTION = "backup_reduction_ratio" ["backup_job"]
        "Bytes read divided by bytes stored, over the successes among the newest 25 backups.";
    SUCCESS_RATIO = "backup_success_ratio" ["backup_job"]
        "Share of successes among the newest 25 backups, cancelled ones not counted, from 0 to 1.";
    RPO = "backup_rpo_seconds" ["backup_job"] "Recovery point objective in the configuration.";
    EXPOSED = "backup_recovery_point_age_seconds" ["backup_job"]
        "Data loss of a failure now: the lag of the captured log or the time since the last \
         success, whichever is less.";
    LOG_LAG = "backup_log_lag_seconds" ["backup_job"]
        "Lag of the captured log when the repository was last read.";
    RTO = "backup_rto_seconds" ["backup_job"] "Recovery time objective in the configuration.";
    RESTORE_PROGRESS = "restore_progress" ["id", "what"]
        "Completed share of a running restore, from 0 to 1.";
    RESTORE_LAST = "restore_last_timestamp_seconds" ["backup_job"]
        "Start of the last restore from a job.";
    RESTORE_DURATION = "restore_last_duration_seconds" ["backup_job"]
        "Duration of the last successful restore.";
    RESTORE_SUCCESS = "restore_last_success" ["backup_job"]
        "1 if the last finished restore succeeded, else 0.";
    RESTORE_COMPARED = "restore_last_compared_timestamp_seconds" ["backup_job"]
        "End of the last successful restore that compared all restored data with the snapshot \
         (`--verify`), without warnings.";
    STORAGE = "storage_usage" ["repository"] "Bytes stored in a repository.";
    STORAGE_OBJECTS = "storage_objects" ["repository"] "Objects stored in a repository.";
    STORAGE_FREE = "storage_free_bytes" ["repository"]
        "Free bytes of the quota or the disk, whichever is less.";
    STORAGE_RATIO = "storage_usage_ratio" ["repository"]
        "Used share of the quota or, without a quota, of the disk, from 0 to 1.";
    STORAGE_LASTS = "storage_lasts_seconds" ["repository"]
        "Time until the free space is used up, at the present growth; absent without growth.";
    STORAGE_COST = "storage_cost_per_month" ["repository", "currency"]
        "Cost of a repository per month, with the prices in `[report]`.";
    VERIFIED = "backup_last_verified_timestamp_seconds" ["repository"]
        "Time of the newest failed verification or check that no later success covers, else of \
         the newest success.";
    VERIFIED_SOUND = "backup_last_verified_sound" ["repository"]
        "1 if no failed verification or check is outstanding, else 0.";
    COPIED = "backup_last_copied_timestamp_seconds" ["repository"]
        "Time of the last successful copy or archive from a repository.";
    LOOKED_INTO = "backup_looked_timestamp_seconds" ["repository"]
        "Time when a repository was last read successfully for these metrics.";
    ALERT = "backup_alert" ["rule", "subject", "severity"]
        "1 for a firing alert, 0 for a pending one.";
    ALERT_SILENCED = "backup_alert_silenced" ["rule", "subject"]
        "1 if a silence suppresses the notifications of an alert, else 0.";
    INFO = "backupd_info" ["version", "host"] "Always 1; the labels identify the daemon.";
    HEALTHY = "backupd_healthy" []
        "1 if the daemon checks its tasks regularly and has no problems, else 0.";
    CONFIGURATION_VALID = "backupd_configuration_valid" []
        "1 if the configuration file is valid, 0 while tasks use the last valid configuration.";
    LOOKED_AT_TASKS = "backupd_looked_timestamp_seconds" []
        "Time when the daemon last checked its tasks.";
    RUNNING = "backupd_running" ["work"] "Number of running operations.";
    WAITING = "backupd_waiting" ["work"] "Number of queued operations.";
    TASK_NEXT = "backupd_task_next_timestamp_seconds" ["task"]
        "Next start of a task; absent for paused and continuous tasks.";
    TASK_PAUSED = "backupd_task_paused" ["task"] "1 if a task is paused, else 0.";
    TASK_SUCCESS = "backupd_task_last_success" ["task"]
        "1 if the last run of a task succeeded, also with warnings, else 0.";
    TASK_DURATION = "backupd_task_last_duration_seconds" ["task"]
        "Duration of the last run of a task.";
}
