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
        "1 for the state of the newest backup of a job, 0 for the others: none, running, verified, \
         failed, cancelled.";
    LAST_SUCCESS = "backup_last_success_timestamp_seconds" ["backup_job"]
        "When the last backup of a job that succeeded began.";
    AGE = "backup_age_seconds" ["backup_job"] "How long ago that was.";
    DURATION = "backup_last_duration_seconds" ["backup_job"] "How long the last backup that \
                                                              succeeded took.";
    SIZE = "backup_last_size_bytes" ["backup_job"] "How much the last snapshot holds.";
    STORED = "backup_last_stored_bytes" ["backup_job"] "How much the last backup that succeeded \
                                                        had to store.";
    REDUCTION = "backup_reduction_ratio" ["backup_job"]
        "How many times what was read it is of what was stored, over the newest 25 backups.";
    SUCCESS_RATIO = "backup_success_ratio" ["backup_job"]
        "The share of successes among the newest 25 backups that nobody stopped, from 0 to 1.";
    RPO = "backup_rpo_seconds" ["backup_job"] "How much may be lost, by the configuration.";
    EXPOSED = "backup_recovery_point_age_seconds" ["backup_job"]
        "How much would be lost now: what the captured log is behind, or else since the last \
         success.";
    LOG_LAG = "backup_log_lag_seconds" ["backup_job"]
        "How far the captured log is behind, as it was when the repository was looked into.";
    RTO = "backup_rto_seconds" ["backup_job"] "How long a restore may take, by the configuration.";
    RESTORE_PROGRESS = "restore_progress" ["id", "what"] "How much of a restore that goes on is \
                                                          done, from 0 to 1.";
    RESTORE_LAST = "restore_last_timestamp_seconds" ["backup_job"] "When the last restore of a \
                                                                    snapshot of a job began.";
    RESTORE_DURATION = "restore_last_duration_seconds" ["backup_job"] "How long the last restore \
                                                                       that succeeded took.";
    RESTORE_SUCCESS = "restore_last_success" ["backup_job"] "Whether the last restore that ended \
                                                             did what it was to do.";
    RESTORE_COMPARED = "restore_last_compared_timestamp_seconds" ["backup_job"]
        "When the last restore was over that succeeded, and read back and compared what it had \
         restored (`--verify`).";
    STORAGE = "storage_usage" ["repository"] "Bytes that lie in a repository.";
    STORAGE_OBJECTS = "storage_objects" ["repository"] "Objects that lie in a repository.";
    STORAGE_FREE = "storage_free_bytes" ["repository"] "Bytes that are left, of the quota or of \
                                                        the disk.";
    STORAGE_RATIO = "storage_usage_ratio" ["repository"] "The share of the quota, or of the disk, \
                                                          that is used, from 0 to 1.";
    STORAGE_LASTS = "storage_lasts_seconds" ["repository"] "For how long what is left will do; \
                                                            none if it does not grow.";
    STORAGE_COST = "storage_cost_per_month" ["repository", "currency"] "What a repository costs in \
                                                                        a month, by `[report]`.";
    VERIFIED = "backup_last_verified_timestamp_seconds" ["repository"]
        "When the last verification or check of a repository was over.";
    VERIFIED_SOUND = "backup_last_verified_sound" ["repository"] "Whether it found everything \
                                                                  sound.";
    COPIED = "backup_last_copied_timestamp_seconds" ["repository"]
        "When the last copy out of a repository, or archiving, that succeeded was over.";
    LOOKED_INTO = "backup_looked_timestamp_seconds" ["repository"]
        "When a repository was last looked into for these metrics with success.";
    ALERT = "backup_alert" ["rule", "subject", "severity"] "1 for an alert that fires, 0 for one \
                                                            that does not hold for long enough \
                                                            yet.";
    ALERT_SILENCED = "backup_alert_silenced" ["rule", "subject"] "Whether nobody is told of an \
                                                                  alert.";
    INFO = "backupd_info" ["version", "host"] "Always 1: which daemon this is.";
    HEALTHY = "backupd_healthy" [] "Whether the daemon looks at its tasks, and nothing is wrong.";
    LOOKED_AT_TASKS = "backupd_looked_timestamp_seconds" [] "When the daemon last looked at its \
                                                             tasks.";
    RUNNING = "backupd_running" ["work"] "How many pieces of work go on.";
    WAITING = "backupd_waiting" ["work"] "How many pieces of work wait for their turn.";
    TASK_NEXT = "backupd_task_next_timestamp_seconds" ["task"] "When a task begins next; none \
                                                                while it is paused or goes on all \
                                                                the time.";
    TASK_PAUSED = "backupd_task_paused" ["task"] "Whether a task is paused.";
    TASK_SUCCESS = "backupd_task_last_success" ["task"] "Whether a task did last what it was to \
                                                         do; warnings count as done.";
    TASK_DURATION = "backupd_task_last_duration_seconds" ["task"] "How long a task took last.";
}
