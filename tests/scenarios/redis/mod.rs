//! Redis and Valkey.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | what the scenarios share, and each of them for each version of the server |
//! | `caches.rs` | targets with little memory |
//! | `cluster.rs` | clusters |
//! | `cluster_logs.rs` | increments and logs of clusters |
//! | `data.rs` | data of every type |
//! | `failures.rs` | rights, TLS, damage, writers beside us |
//! | `framings.rs` | odd framings of dumps, other names of PSYNC |
//! | `frozen.rs` | servers that stop answering |
//! | `groups.rs` | groups of a busy and an idle server |
//! | `stock.rs` | what stock tools make of our snapshots |
//! | `imports.rs` | RDB files that become snapshots |
//! | `idle.rs` | moments at which nothing happened |
//! | `logs.rs` | the stream of commands in a repository, and restoring to any moment |
//! | `mismatches.rs` | TLS that does not fit the port |
//! | `modules.rs` | values and data of modules |
//! | `program.rs` | the program itself |
//! | `restores.rs` | what is restored |
//! | `scans.rs` | servers that are read key by key |
//! | `sentinels.rs` | groups of servers that sentinels watch |
//! | `snapshots.rs` | what is in snapshots |
//! | `unsuited.rs` | targets that cannot have it, and stay as they are |
//! | `targets.rs` | what targets are like, and what is not for every target |

mod caches;
mod cluster;
mod cluster_logs;
mod data;
mod failures;
mod framings;
mod frozen;
mod groups;
mod idle;
mod imports;
mod logs;
mod mismatches;
mod modules;
mod program;
mod restores;
mod scans;
mod sentinels;
mod snapshots;
mod stock;
mod targets;
mod unsuited;

use std::sync::Arc;

use backup_core::context::Context;
use backup_core::event::{Event, Events, Reporter};
use backup_core::pipeline::{BackupOptions, BackupReport};
use backup_core::repository::SnapshotReader;
use backup_core::source::{Digest, EntryPath, Selection, Source as _};
use backup_sources::redis::{RedisOptions, RedisSource};
use futures::StreamExt as _;

use crate::support::redis::{Redis, Version};
use crate::support::repo::Repo;

/// Each scenario for each version, in modules that say which server they need.
macro_rules! scenarios {
    ($($module:ident $version:expr => { $($(#[$attribute:meta])* $scenario:path as $name:ident),+ $(,)? })+) => {
        $(mod $module {
            use super::*;
            $(
                $(#[$attribute])*
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    Box::pin($scenario($version)).await;
                }
            )+
        })+
    };
}

scenarios! {
    needs_redis_6_0 Version::Redis6 => {
        groups::latest_moment_has_the_last_write_of_an_idle_server
            as latest_moment_has_the_last_write_of_an_idle_server,
        idle::moments_before_a_gap_come_back as moments_before_a_gap_come_back,
        program::compare_names_databases_that_differ as compare_names_databases_that_differ,
        framings::odd_framings_end_with_the_dump as odd_framings_end_with_the_dump,
        framings::renamed_psync_gives_snapshots_without_a_log
            as renamed_psync_gives_snapshots_without_a_log,
        program::doctor_promises_only_checked_facts as doctor_promises_only_checked_facts,
        caches::restore_of_a_full_cache_counts_evicted_keys as restore_of_a_full_cache_counts_evicted_keys,
        caches::small_cache_is_filled_only_by_force as small_cache_is_filled_only_by_force,
        caches::restore_that_stops_half_way_can_go_on as restore_that_stops_half_way_can_go_on,
        imports::imported_rdb_file_joins_the_job as imported_rdb_file_joins_the_job,
        program::from_the_first_backup_to_any_moment as from_the_first_backup_to_any_moment,
        targets::nothing_is_dropped_in_vain as nothing_is_dropped_in_vain,
        targets::a_target_is_its_own_master_again as a_target_is_its_own_master_again,
        failures::silence_is_noticed as silence_is_noticed,
        frozen::frozen_servers_are_given_up as frozen_servers_are_given_up,
        failures::slow_readers_are_waited_for as slow_readers_are_waited_for,
        snapshots::the_dump_is_what_the_server_has as the_dump_is_what_the_server_has,
        scans::a_server_that_is_not_followed_is_scanned as a_server_that_is_not_followed_is_scanned,
        scans::few_rights_are_enough_for_a_scan as few_rights_are_enough_for_a_scan,
        restores::all_keys_come_back as all_keys_come_back,
        restores::a_replica_gets_everything as a_replica_gets_everything,
        restores::a_server_starts_on_the_files as a_server_starts_on_the_files,
        logs::every_moment_comes_back as every_moment_comes_back,
        unsuited::rights_are_looked_at_first as rights_are_looked_at_first,
        unsuited::whoever_loads_is_alive as whoever_loads_is_alive,
        unsuited::what_has_expired_is_no_success as what_has_expired_is_no_success,
        unsuited::a_full_target_is_enough as a_full_target_is_enough,
        restores::parts_go_where_they_are_wanted as parts_go_where_they_are_wanted,
        restores::expired_keys_stay_away_and_use_is_kept as expired_keys_stay_away_and_use_is_kept,
        restores::values_that_are_too_large_are_refused_alone as values_that_are_too_large_are_refused_alone,
        logs::increments_build_on_each_other as increments_build_on_each_other,
        logs::whoever_dies_is_followed as whoever_dies_is_followed,
        logs::a_failover_is_followed as a_failover_is_followed,
        sentinels::follower_and_restore_find_the_promoted_master
            as follower_and_restore_find_the_promoted_master,
        idle::idle_moments_come_back as idle_moments_come_back,
        idle::cut_off_replica_does_not_vouch as cut_off_replica_does_not_vouch,
        logs::what_was_not_captured_is_refused as what_was_not_captured_is_refused,
        failures::few_rights_are_enough as few_rights_are_enough,
        failures::damaged_dumps_become_no_snapshot as damaged_dumps_become_no_snapshot,
        failures::sums_hold_while_others_write as sums_hold_while_others_write,
        failures::nobody_is_promised_what_is_not_stored as nobody_is_promised_what_is_not_stored,
    }
    needs_redis_7_0 Version::Redis7 => {
        framings::odd_framings_end_with_the_dump as odd_framings_end_with_the_dump,
        framings::renamed_psync_gives_snapshots_without_a_log
            as renamed_psync_gives_snapshots_without_a_log,
        cluster::a_cluster_is_one_source as a_cluster_is_one_source,
        cluster::a_cluster_gets_another_shape as a_cluster_gets_another_shape,
        cluster::moving_slots_are_refused as moving_slots_are_refused,
        modules::module_data_is_no_key as module_data_is_no_key,
        #[ignore = "a version in between: scripts/test --long"]
        snapshots::the_dump_is_what_the_server_has as the_dump_is_what_the_server_has,
        #[ignore = "a version in between: scripts/test --long"]
        scans::a_server_that_is_not_followed_is_scanned as a_server_that_is_not_followed_is_scanned,
        #[ignore = "a version in between: scripts/test --long"]
        scans::few_rights_are_enough_for_a_scan as few_rights_are_enough_for_a_scan,
        #[ignore = "a version in between: scripts/test --long"]
        restores::all_keys_come_back as all_keys_come_back,
        #[ignore = "a version in between: scripts/test --long"]
        restores::a_replica_gets_everything as a_replica_gets_everything,
        #[ignore = "a version in between: scripts/test --long"]
        restores::a_server_starts_on_the_files as a_server_starts_on_the_files,
        #[ignore = "a version in between: scripts/test --long"]
        logs::every_moment_comes_back as every_moment_comes_back,
    }
    needs_redis_8_0 Version::Redis8 => {
        groups::latest_moment_has_the_last_write_of_an_idle_server
            as latest_moment_has_the_last_write_of_an_idle_server,
        idle::moments_before_a_gap_come_back as moments_before_a_gap_come_back,
        program::compare_names_databases_that_differ as compare_names_databases_that_differ,
        framings::odd_framings_end_with_the_dump as odd_framings_end_with_the_dump,
        framings::renamed_psync_gives_snapshots_without_a_log
            as renamed_psync_gives_snapshots_without_a_log,
        program::doctor_promises_only_checked_facts as doctor_promises_only_checked_facts,
        mismatches::tls_mismatches_are_named_at_once as tls_mismatches_are_named_at_once,
        framings::endless_dumps_are_given_up as endless_dumps_are_given_up,
        sentinels::isolated_old_master_is_passed_over as isolated_old_master_is_passed_over,
        sentinels::sentinels_have_a_login_of_their_own as sentinels_have_a_login_of_their_own,
        modules::values_of_modules_are_not_compared as values_of_modules_are_not_compared,
        caches::restore_of_a_full_cache_counts_evicted_keys as restore_of_a_full_cache_counts_evicted_keys,
        caches::small_cache_is_filled_only_by_force as small_cache_is_filled_only_by_force,
        caches::restore_that_stops_half_way_can_go_on as restore_that_stops_half_way_can_go_on,
        imports::imported_rdb_file_joins_the_job as imported_rdb_file_joins_the_job,
        imports::damaged_rdb_files_become_no_snapshot as damaged_rdb_files_become_no_snapshot,
        cluster_logs::every_moment_of_all_masters_comes_back as every_moment_of_all_masters_comes_back,
        cluster_logs::increments_of_all_masters_build_on_each_other as increments_of_all_masters_build_on_each_other,
        cluster_logs::moved_slots_leave_a_gap_that_is_told as moved_slots_leave_a_gap_that_is_told,
        cluster_logs::a_failover_of_one_master_is_followed as a_failover_of_one_master_is_followed,
        cluster_logs::a_failover_that_nobody_saw_is_made_up_for as a_failover_that_nobody_saw_is_made_up_for,
        cluster_logs::a_master_that_is_cut_off_is_left as a_master_that_is_cut_off_is_left,
        cluster_logs::an_idle_master_is_no_obstacle as an_idle_master_is_no_obstacle,
        cluster::a_cluster_gets_another_shape as a_cluster_gets_another_shape,
        cluster::nodes_start_on_their_files as nodes_start_on_their_files,
        program::from_the_first_backup_to_any_moment as from_the_first_backup_to_any_moment,
        program::keys_go_where_they_are_wanted as keys_go_where_they_are_wanted,
        program::what_is_of_no_moment_is_marked as what_is_of_no_moment_is_marked,
        targets::nothing_is_dropped_in_vain as nothing_is_dropped_in_vain,
        targets::a_target_is_its_own_master_again as a_target_is_its_own_master_again,
        #[ignore = "runs on the oldest Redis and the newest Valkey; others: scripts/test --long"]
        failures::silence_is_noticed as silence_is_noticed,
        #[ignore = "runs on the oldest Redis and the newest Valkey; others: scripts/test --long"]
        failures::slow_readers_are_waited_for as slow_readers_are_waited_for,
        targets::the_dead_stay_dead as the_dead_stay_dead,
        targets::what_expands_to_a_lot_is_stored_all_the_same as what_expands_to_a_lot_is_stored_all_the_same,
        snapshots::the_dump_is_what_the_server_has as the_dump_is_what_the_server_has,
        scans::a_server_that_is_not_followed_is_scanned as a_server_that_is_not_followed_is_scanned,
        scans::few_rights_are_enough_for_a_scan as few_rights_are_enough_for_a_scan,
        restores::all_keys_come_back as all_keys_come_back,
        restores::a_replica_gets_everything as a_replica_gets_everything,
        restores::a_server_starts_on_the_files as a_server_starts_on_the_files,
        logs::every_moment_comes_back as every_moment_comes_back,
        unsuited::rights_are_looked_at_first as rights_are_looked_at_first,
        #[ignore = "runs on the oldest Redis and the newest Valkey; others: scripts/test --long"]
        unsuited::whoever_loads_is_alive as whoever_loads_is_alive,
        unsuited::what_has_expired_is_no_success as what_has_expired_is_no_success,
        unsuited::a_full_target_is_enough as a_full_target_is_enough,
        restores::parts_go_where_they_are_wanted as parts_go_where_they_are_wanted,
        restores::expired_keys_stay_away_and_use_is_kept as expired_keys_stay_away_and_use_is_kept,
        restores::values_that_are_too_large_are_refused_alone as values_that_are_too_large_are_refused_alone,
        logs::increments_build_on_each_other as increments_build_on_each_other,
        #[ignore = "runs on the oldest Redis and the newest Valkey; others: scripts/test --long"]
        logs::whoever_dies_is_followed as whoever_dies_is_followed,
        logs::a_failover_is_followed as a_failover_is_followed,
        sentinels::follower_and_restore_find_the_promoted_master
            as follower_and_restore_find_the_promoted_master,
        logs::what_was_not_captured_is_refused as what_was_not_captured_is_refused,
        failures::few_rights_are_enough as few_rights_are_enough,
        failures::damaged_dumps_become_no_snapshot as damaged_dumps_become_no_snapshot,
        failures::sums_hold_while_others_write as sums_hold_while_others_write,
        failures::nobody_is_promised_what_is_not_stored as nobody_is_promised_what_is_not_stored,
        failures::certificates_are_checked as certificates_are_checked,
        sentinels::tls_and_logins_hold_for_sentinels as tls_and_logins_hold_for_sentinels,
        sentinels::stale_sentinels_are_passed_over as stale_sentinels_are_passed_over,
        unsuited::a_target_follows_over_tls as a_target_follows_over_tls,
        unsuited::whoever_does_not_come_keeps_what_he_has as whoever_does_not_come_keeps_what_he_has,
    }
    needs_valkey_8 Version::Valkey8 => {
        framings::odd_framings_end_with_the_dump as odd_framings_end_with_the_dump,
        framings::renamed_psync_gives_snapshots_without_a_log
            as renamed_psync_gives_snapshots_without_a_log,
        #[ignore = "a version in between: scripts/test --long"]
        cluster::a_cluster_is_one_source as a_cluster_is_one_source,
        #[ignore = "a version in between: scripts/test --long"]
        cluster::a_cluster_gets_another_shape as a_cluster_gets_another_shape,
        #[ignore = "a version in between: scripts/test --long"]
        cluster::nodes_start_on_their_files as nodes_start_on_their_files,
        #[ignore = "a version in between: scripts/test --long"]
        cluster::moving_slots_are_refused as moving_slots_are_refused,
        cluster::nodes_that_are_not_followed_are_scanned as nodes_that_are_not_followed_are_scanned,
        #[ignore = "a version in between: scripts/test --long"]
        snapshots::the_dump_is_what_the_server_has as the_dump_is_what_the_server_has,
        #[ignore = "a version in between: scripts/test --long"]
        scans::a_server_that_is_not_followed_is_scanned as a_server_that_is_not_followed_is_scanned,
        #[ignore = "a version in between: scripts/test --long"]
        scans::few_rights_are_enough_for_a_scan as few_rights_are_enough_for_a_scan,
        #[ignore = "a version in between: scripts/test --long"]
        restores::all_keys_come_back as all_keys_come_back,
        #[ignore = "a version in between: scripts/test --long"]
        restores::a_replica_gets_everything as a_replica_gets_everything,
        #[ignore = "a version in between: scripts/test --long"]
        restores::a_server_starts_on_the_files as a_server_starts_on_the_files,
        #[ignore = "a version in between: scripts/test --long"]
        logs::every_moment_comes_back as every_moment_comes_back,
    }
    needs_valkey_9 Version::Valkey9 => {
        groups::latest_moment_has_the_last_write_of_an_idle_server
            as latest_moment_has_the_last_write_of_an_idle_server,
        idle::moments_before_a_gap_come_back as moments_before_a_gap_come_back,
        program::compare_names_databases_that_differ as compare_names_databases_that_differ,
        framings::odd_framings_end_with_the_dump as odd_framings_end_with_the_dump,
        framings::renamed_psync_gives_snapshots_without_a_log
            as renamed_psync_gives_snapshots_without_a_log,
        program::doctor_promises_only_checked_facts as doctor_promises_only_checked_facts,
        mismatches::tls_mismatches_are_named_at_once as tls_mismatches_are_named_at_once,
        framings::endless_dumps_are_given_up as endless_dumps_are_given_up,
        sentinels::isolated_old_master_is_passed_over as isolated_old_master_is_passed_over,
        sentinels::sentinels_have_a_login_of_their_own as sentinels_have_a_login_of_their_own,
        caches::restore_of_a_full_cache_counts_evicted_keys as restore_of_a_full_cache_counts_evicted_keys,
        caches::small_cache_is_filled_only_by_force as small_cache_is_filled_only_by_force,
        caches::restore_that_stops_half_way_can_go_on as restore_that_stops_half_way_can_go_on,
        imports::imported_rdb_file_joins_the_job as imported_rdb_file_joins_the_job,
        cluster_logs::every_moment_of_all_masters_comes_back as every_moment_of_all_masters_comes_back,
        cluster_logs::increments_of_all_masters_build_on_each_other as increments_of_all_masters_build_on_each_other,
        cluster_logs::moved_slots_leave_a_gap_that_is_told as moved_slots_leave_a_gap_that_is_told,
        cluster_logs::a_failover_of_one_master_is_followed as a_failover_of_one_master_is_followed,
        cluster_logs::a_failover_that_nobody_saw_is_made_up_for as a_failover_that_nobody_saw_is_made_up_for,
        cluster_logs::a_master_that_is_cut_off_is_left as a_master_that_is_cut_off_is_left,
        cluster_logs::an_idle_master_is_no_obstacle as an_idle_master_is_no_obstacle,
        cluster::a_cluster_is_one_source as a_cluster_is_one_source,
        cluster::a_cluster_gets_another_shape as a_cluster_gets_another_shape,
        cluster::nodes_start_on_their_files as nodes_start_on_their_files,
        cluster::moving_slots_are_refused as moving_slots_are_refused,
        modules::module_data_is_no_key as module_data_is_no_key,
        program::from_the_first_backup_to_any_moment as from_the_first_backup_to_any_moment,
        program::keys_go_where_they_are_wanted as keys_go_where_they_are_wanted,
        targets::nothing_is_dropped_in_vain as nothing_is_dropped_in_vain,
        targets::a_target_is_its_own_master_again as a_target_is_its_own_master_again,
        failures::silence_is_noticed as silence_is_noticed,
        failures::slow_readers_are_waited_for as slow_readers_are_waited_for,
        targets::the_dead_stay_dead as the_dead_stay_dead,
        targets::what_expands_to_a_lot_is_stored_all_the_same as what_expands_to_a_lot_is_stored_all_the_same,
        snapshots::the_dump_is_what_the_server_has as the_dump_is_what_the_server_has,
        scans::a_server_that_is_not_followed_is_scanned as a_server_that_is_not_followed_is_scanned,
        scans::few_rights_are_enough_for_a_scan as few_rights_are_enough_for_a_scan,
        restores::all_keys_come_back as all_keys_come_back,
        restores::a_replica_gets_everything as a_replica_gets_everything,
        restores::a_server_starts_on_the_files as a_server_starts_on_the_files,
        logs::every_moment_comes_back as every_moment_comes_back,
        unsuited::rights_are_looked_at_first as rights_are_looked_at_first,
        unsuited::whoever_loads_is_alive as whoever_loads_is_alive,
        unsuited::what_has_expired_is_no_success as what_has_expired_is_no_success,
        unsuited::a_full_target_is_enough as a_full_target_is_enough,
        restores::parts_go_where_they_are_wanted as parts_go_where_they_are_wanted,
        restores::expired_keys_stay_away_and_use_is_kept as expired_keys_stay_away_and_use_is_kept,
        restores::values_that_are_too_large_are_refused_alone as values_that_are_too_large_are_refused_alone,
        logs::increments_build_on_each_other as increments_build_on_each_other,
        logs::whoever_dies_is_followed as whoever_dies_is_followed,
        logs::a_failover_is_followed as a_failover_is_followed,
        sentinels::follower_and_restore_find_the_promoted_master
            as follower_and_restore_find_the_promoted_master,
        idle::idle_moments_come_back as idle_moments_come_back,
        idle::cut_off_replica_does_not_vouch as cut_off_replica_does_not_vouch,
        cluster_logs::idle_moments_of_all_masters_come_back as idle_moments_of_all_masters_come_back,
        logs::what_was_not_captured_is_refused as what_was_not_captured_is_refused,
        failures::few_rights_are_enough as few_rights_are_enough,
        failures::damaged_dumps_become_no_snapshot as damaged_dumps_become_no_snapshot,
        failures::sums_hold_while_others_write as sums_hold_while_others_write,
        failures::nobody_is_promised_what_is_not_stored as nobody_is_promised_what_is_not_stored,
        failures::certificates_are_checked as certificates_are_checked,
        sentinels::tls_and_logins_hold_for_sentinels as tls_and_logins_hold_for_sentinels,
        sentinels::stale_sentinels_are_passed_over as stale_sentinels_are_passed_over,
        unsuited::a_target_follows_over_tls as a_target_follows_over_tls,
        unsuited::whoever_does_not_come_keeps_what_he_has as whoever_does_not_come_keeps_what_he_has,
    }
    needs_redis_restic Version::Redis8 => {
        stock::restic_and_a_server_are_enough as restic_and_a_server_are_enough,
    }
}

mod needs_redis_all {
    use super::{restores, unsuited};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn versions_are_no_wall() {
        Box::pin(restores::versions_are_no_wall()).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn names_that_meet_are_refused_first() {
        Box::pin(unsuited::names_that_meet_are_refused_first()).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nothing_goes_for_what_cannot_come() {
        Box::pin(unsuited::nothing_goes_for_what_cannot_come()).await;
    }
}

async fn source(server: &Redis) -> RedisSource {
    source_with(RedisOptions::parse(&server.address()).unwrap()).await
}

async fn source_with(options: RedisOptions) -> RedisSource {
    let connected = RedisSource::connect(options).await;
    connected.unwrap_or_else(|error| panic!("connecting: {} ({:?})", error.chain(), error.hint()))
}

/// Shown when the test fails.
#[expect(clippy::print_stdout, reason = "the harness keeps it for tests that fail")]
fn say(text: &str) {
    println!("{text}");
}

/// A context whose remarks and warnings are shown when the test fails.
fn talking() -> Context {
    struct Shown;
    impl Reporter for Shown {
        fn report(&self, event: &Event) {
            if matches!(event, Event::Note { .. } | Event::Warning(_)) {
                say(&format!("{event:?}"));
            }
        }
    }
    Context::new(Events::to(Arc::new(Shown)))
}

async fn back_up(repo: &Repo, source: &RedisSource) -> BackupReport {
    let report = backup_core::pipeline::backup(
        &repo.repository,
        source,
        &BackupOptions::default(),
        &talking(),
    )
    .await;
    report.unwrap_or_else(|error| panic!("backing up: {} ({:?})", error.chain(), error.hint()))
}

async fn digest(source: &RedisSource) -> Digest {
    let digest = source.digest(&Context::silent(), &Selection::all()).await;
    digest.unwrap_or_else(|error| panic!("digest: {} ({:?})", error.chain(), error.hint()))
}

/// A file of the only node in a snapshot.
async fn file(snapshot: &SnapshotReader, name: &str) -> Vec<u8> {
    let paths = snapshot.paths();
    let node = snapshot
        .find(&EntryPath::new(format!("{}/{name}", paths[0])).unwrap())
        .await
        .unwrap()
        .unwrap();
    let mut content = snapshot.content(&node);
    let mut bytes = Vec::new();
    while let Some(piece) = content.next().await {
        bytes.extend_from_slice(&piece.unwrap());
    }
    bytes
}
