//! PostgreSQL.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | what the scenarios share, and each of them for each version of the server |
//! | `addresses.rs` | addresses as libpq takes them |
//! | `machines.rs` | restores on machines that differ from that of the original |
//! | `logs.rs` | the log in a repository, and restoring to any moment |
//! | `idle.rs` | moments at which nothing happened |
//! | `moments.rs` | moments that lie close together |
//! | `expected.rs` | minimum contents of physical backups |
//! | `pauses.rs` | restored servers that wait for a promotion; dry runs |
//! | `failures.rs` | rights, TLS, damage, whoever dies on the way |
//! | `frozen.rs` | servers that stop answering, and statements that take long |
//! | `increments.rs` | backups of what changed, and what is put together of them |
//! | `synthetic.rs` | full snapshots made of chains, without the server |
//! | `stock.rs` | what stock tools make of our snapshots |
//! | `archive.rs` | the log file by file |
//! | `followers.rs` | several captures of one log |
//! | `kills.rs` | whoever is killed at any moment |
//! | `deaths.rs` | whoever dies and comes back while others work |
//! | `scratch.rs` | parts of a data directory, by a scratch server |
//! | `slots.rs` | what alerts see of the slot that the log is kept for |
//! | `place.rs` | a repository with a configuration |
//! | `program.rs` | the program itself |
//! | `workloads.rs` | whatever dice do to files of relations |
//! | `dice.rs` | those workloads |
//! | `vast.rs` | a table over 1 GiB among them |
//! | `logical/` | logical backups |
//! | `debian.rs` | a cluster whose configuration lies elsewhere, on an empty machine |
//! | `copies.rs` | settings of the original that a copy does not take over |
//! | `base.rs` | backups of data directories, and servers that start on what is restored |
//! | `between.rs` | versions between the oldest and the newest |

mod addresses;
mod archive;
mod base;
mod between;
mod copies;
mod deaths;
mod debian;
mod dice;
mod expected;
mod failures;
mod followers;
mod frozen;
mod idle;
mod increments;
mod kills;
mod logical;
mod logs;
mod machines;
mod moments;
mod pauses;
mod place;
mod program;
mod scratch;
mod slots;
mod stock;
mod synthetic;
mod vast;
mod workloads;

use std::path::Path;

use backup_core::context::Context;
use backup_core::event::{Event, Events, Reporter};
use backup_core::pipeline::{BackupOptions, BackupReport, restore};
use backup_core::repository::SnapshotReader;
use backup_core::source::{Digest, RestoreReport, RestoreRequest, Selection, Source as _};
use backup_sources::postgres::{PostgresOptions, PostgresSource};
use std::sync::Arc;

use crate::support::postgres::{Postgres, Version, hand_over};
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
    needs_postgres_13 Version::V13 => {
        addresses::servers_are_chosen_by_their_role as servers_are_chosen_by_their_role,
        addresses::certificates_are_trusted_themselves as certificates_are_trusted_themselves,
        pauses::paused_servers_wait_for_their_promotion as paused_servers_wait_for_their_promotion,
        pauses::dry_runs_resolve_transactions_and_points as dry_runs_resolve_transactions_and_points,
        expected::estimates_of_the_server_are_compared as estimates_of_the_server_are_compared,
        moments::settings_may_have_grown as settings_may_have_grown,
        copies::copies_run_no_commands_of_originals as copies_run_no_commands_of_originals,
        copies::linked_configuration_comes_along as linked_configuration_comes_along,
        machines::minimal_configurations_start as minimal_configurations_start,
        debian::debian_layout_is_restored_on_an_empty_machine as debian_layout_is_restored_on_an_empty_machine,
        synthetic::a_chain_becomes_a_full_one as a_chain_becomes_a_full_one,
        increments::rights_decide_what_is_read as rights_decide_what_is_read,
        increments::what_changed_is_enough as what_changed_is_enough,
        increments::moments_behind_them_come_back as moments_behind_them_come_back,
        workloads::what_dice_do_comes_back as what_dice_do_comes_back,
        failures::the_right_to_replicate_is_enough as the_right_to_replicate_is_enough,
        failures::damaged_pages_are_told as damaged_pages_are_told,
        failures::a_backup_that_is_given_up_leaves_nothing as a_backup_that_is_given_up_leaves_nothing,
        base::a_server_starts_on_what_is_restored as a_server_starts_on_what_is_restored,
        logs::every_moment_comes_back as every_moment_comes_back,
        logs::segments_have_any_size as segments_have_any_size,
        logs::what_was_not_captured_is_refused as what_was_not_captured_is_refused,
        logs::a_promotion_is_followed as a_promotion_is_followed,
        idle::cut_off_standby_does_not_vouch as cut_off_standby_does_not_vouch,
        base::rows_that_differ_have_other_digests as rows_that_differ_have_other_digests,
        failures::a_logical_slot_is_left_alone as a_logical_slot_is_left_alone,
        slots::what_is_wrong_with_a_slot_is_told as what_is_wrong_with_a_slot_is_told,
        slots::an_outage_is_reported_within_seconds as an_outage_is_reported_within_seconds,
        program::from_the_first_backup_to_a_running_copy as from_the_first_backup_to_a_running_copy,
    }
    needs_postgres_14 Version::V14 => {
        archive::files_go_there_and_back as files_go_there_and_back,
        #[ignore = "a version in between: scripts/test --long"]
        base::a_server_starts_on_what_is_restored as a_server_starts_on_what_is_restored,
    }
    needs_postgres_15 Version::V15 => {
        machines::tablespaces_in_place_start as tablespaces_in_place_start,
        increments::visibility_maps_tell_the_truth as visibility_maps_tell_the_truth,
        #[ignore = "a version in between: scripts/test --long"]
        workloads::what_dice_do_comes_back as what_dice_do_comes_back,
        #[ignore = "a version in between: scripts/test --long"]
        base::a_server_starts_on_what_is_restored as a_server_starts_on_what_is_restored,
        #[ignore = "a version in between: scripts/test --long"]
        logs::every_moment_comes_back as every_moment_comes_back,
    }
    needs_postgres_16 Version::V16 => {
        increments::rights_decide_what_is_read as rights_decide_what_is_read,
        increments::damage_of_what_changed_is_told as damage_of_what_changed_is_told,
        workloads::pages_that_nobody_wrote_to as pages_that_nobody_wrote_to,
        #[ignore = "a version in between: scripts/test --long"]
        workloads::what_dice_do_comes_back as what_dice_do_comes_back,
        increments::without_the_log_it_is_a_full_one as without_the_log_it_is_a_full_one,
        #[ignore = "a version in between: scripts/test --long"]
        base::a_server_starts_on_what_is_restored as a_server_starts_on_what_is_restored,
    }
    needs_postgres_17 Version::V17 => {
        moments::settings_may_have_grown as settings_may_have_grown,
        synthetic::maps_tell_the_truth as maps_of_a_full_one_made_of_a_chain_tell_the_truth,
        synthetic::the_verb_makes_one as the_verb_makes_a_full_one,
        #[ignore = "a version in between: scripts/test --long"]
        workloads::pages_that_nobody_wrote_to as pages_that_nobody_wrote_to,
        #[ignore = "a version in between: scripts/test --long"]
        workloads::what_dice_do_comes_back as what_dice_do_comes_back,
        workloads::the_log_tells_what_summaries_tell as the_log_tells_what_summaries_tell,
        #[ignore = "a version in between: scripts/test --long"]
        increments::what_changed_is_enough as what_changed_is_enough,
        #[ignore = "a version in between: scripts/test --long"]
        increments::visibility_maps_tell_the_truth as visibility_maps_tell_the_truth,
        increments::without_the_log_it_is_a_full_one as without_the_log_it_is_a_full_one,
        base::what_lies_elsewhere_comes_along as what_lies_elsewhere_comes_along,
        #[ignore = "a version in between: scripts/test --long"]
        base::a_server_starts_on_what_is_restored as a_server_starts_on_what_is_restored,
        #[ignore = "a version in between: scripts/test --long"]
        logs::every_moment_comes_back as every_moment_comes_back,
        logs::segments_have_any_size as segments_have_any_size,
        slots::what_is_wrong_with_a_slot_is_told as what_is_wrong_with_a_slot_is_told,
    }
    needs_pg_dump_13 Version::V13 => {
        #[ignore = "12 000 tables: scripts/test --long"]
        logical::odd::very_many_tables_fit_the_locks_of_a_server as very_many_tables_fit_the_locks_of_a_server,
        scratch::a_table_comes_out_of_a_data_directory as a_table_comes_out_of_a_data_directory,
        scratch::compare_reads_physical_backups_by_a_scratch_server as compare_reads_physical_backups_by_a_scratch_server,
        logical::compare::compare_names_tables_that_differ as compare_names_tables_that_differ,
        logical::round_trip::everything_comes_back as everything_comes_back,
        logical::round_trip::everything_gets_to_18 as everything_gets_to_18,
        moments::a_millisecond_is_enough as a_millisecond_is_enough,
        logical::parts::a_part_is_backed_up_alone as a_part_is_backed_up_alone,
        logical::beside::copies_leave_the_originals_alone as copies_leave_the_originals_alone,
        logical::beside::copies_are_not_tied_to_originals as copies_are_not_tied_to_originals,
        logical::owners::owners_restore_their_own as owners_restore_their_own,
        logical::public::copies_of_public_are_as_open as copies_of_public_are_as_open,
        logical::public::new_schemas_are_open_to_owners_of_their_tables as new_schemas_are_open_to_owners_of_their_tables,
        logical::public::owners_copy_their_public as owners_copy_their_public,
        logical::in_use::schemas_in_use_keep_their_privileges as schemas_in_use_keep_their_privileges,
        logical::in_use::plans_name_every_object_that_goes as plans_name_every_object_that_goes,
        logical::grants::grants_follow_their_objects as grants_follow_their_objects,
        logical::loadable::names_keep_their_line_ends as names_keep_their_line_ends,
        logical::loadable::materialized_views_come_alone as materialized_views_come_alone,
        logical::loadable::rows_find_their_partitions as rows_find_their_partitions,
        logical::loadable::bytes_without_an_encoding_come_back as bytes_without_an_encoding_come_back,
        logical::refused::refused_objects_leave_the_rest as refused_objects_leave_the_rest,
        logical::refused::missing_operator_classes_are_warnings as missing_operator_classes_are_warnings,
        logical::plans::plans_count_rows_of_snapshot_and_target as plans_count_rows_of_snapshot_and_target,
        #[ignore = "a second version: scripts/test --long"]
        logical::generated::checks::generated_databases_come_back as generated_databases_come_back,
    }
    needs_pg_dump_17 Version::V17 => {
        scratch::a_table_comes_out_of_a_data_directory as a_table_comes_out_of_a_data_directory,
        #[ignore = "a version in between: scripts/test --long"]
        moments::a_millisecond_is_enough as a_millisecond_is_enough,
    }
    needs_pg_dump_15 Version::V15 => {
        #[ignore = "a version in between: scripts/test --long"]
        moments::a_millisecond_is_enough as a_millisecond_is_enough,
        #[ignore = "a version in between: scripts/test --long"]
        logical::round_trip::everything_comes_back as everything_comes_back,
        logical::round_trip::large_tables_are_read_in_parts as large_tables_are_read_in_parts,
        logical::parts::what_is_there_is_respected as what_is_there_is_respected,
    }
    needs_pg_dump_18 Version::V18 => {
        scratch::compare_reads_physical_backups_by_a_scratch_server as compare_reads_physical_backups_by_a_scratch_server,
        logical::compare::compare_names_tables_that_differ as compare_names_tables_that_differ,
        moments::a_millisecond_is_enough as a_millisecond_is_enough,
        logical::round_trip::everything_comes_back as everything_comes_back,
        logical::round_trip::large_tables_are_read_in_parts as large_tables_are_read_in_parts,
        logical::round_trip::money_is_neither_made_nor_lost as money_is_neither_made_nor_lost,
        logical::round_trip::definitions_may_change_meanwhile as definitions_may_change_meanwhile,
        logical::round_trip::extensions_keep_their_configuration as extensions_keep_their_configuration,
        logical::parts::a_part_is_restored_alone as a_part_is_restored_alone,
        logical::plans::plans_count_rows_of_snapshot_and_target as plans_count_rows_of_snapshot_and_target,
        logical::generated::checks::generated_databases_come_back as generated_databases_come_back,
        logical::hostile::crafted_descriptions_are_refused as crafted_descriptions_are_refused,
        logical::parts::copies_get_other_names as copies_get_other_names,
        logical::beside::copies_leave_the_originals_alone as copies_leave_the_originals_alone,
        logical::beside::equal_new_names_are_refused as equal_new_names_are_refused,
        logical::beside::copies_are_not_tied_to_originals as copies_are_not_tied_to_originals,
        logical::owners::owners_restore_their_own as owners_restore_their_own,
        logical::public::copies_of_public_are_as_open as copies_of_public_are_as_open,
        logical::public::new_schemas_are_open_to_owners_of_their_tables as new_schemas_are_open_to_owners_of_their_tables,
        logical::public::owners_copy_their_public as owners_copy_their_public,
        logical::in_use::schemas_in_use_keep_their_privileges as schemas_in_use_keep_their_privileges,
        logical::in_use::plans_name_every_object_that_goes as plans_name_every_object_that_goes,
        logical::grants::grants_follow_their_objects as grants_follow_their_objects,
        logical::grants::incomplete_databases_are_not_backed_up as incomplete_databases_are_not_backed_up,
        logical::loadable::names_keep_their_line_ends as names_keep_their_line_ends,
        logical::loadable::materialized_views_come_alone as materialized_views_come_alone,
        logical::loadable::rows_find_their_partitions as rows_find_their_partitions,
        logical::loadable::bytes_without_an_encoding_come_back as bytes_without_an_encoding_come_back,
        logical::refused::refused_objects_leave_the_rest as refused_objects_leave_the_rest,
        logical::refused::missing_operator_classes_are_warnings as missing_operator_classes_are_warnings,
        logical::deferred::second_attempts_keep_place_and_owner as second_attempts_keep_place_and_owner,
        logical::deferred::search_paths_follow_new_names as search_paths_follow_new_names,
        logical::deferred::missing_roles_take_no_other_grants as missing_roles_take_no_other_grants,
        logical::deferred::databases_stay_if_their_successor_is_refused as databases_stay_if_their_successor_is_refused,
        logical::parts::what_is_there_is_respected as what_is_there_is_respected,
        logical::failures::hidden_rows_are_refused as hidden_rows_are_refused,
        frozen::logical_backup_of_a_frozen_server_is_given_up as logical_backup_of_a_frozen_server_is_given_up,
        logical::failures::locks_are_not_waited_for_forever as locks_are_not_waited_for_forever,
        logical::failures::pg_dump_must_be_there as pg_dump_must_be_there,
        logical::failures::a_backup_that_is_given_up_leaves_nothing as a_logical_backup_that_is_given_up_leaves_nothing,
        logical::failures::a_restore_that_is_broken_off_is_done_again as a_restore_that_is_broken_off_is_done_again,
        logical::program::a_configuration_is_enough as a_configuration_of_logical_backups_is_enough,
        logical::failures::owners_are_asked_for_first as owners_are_asked_for_first,
        logical::failures::locks_that_are_gone_are_noticed as locks_that_are_gone_are_noticed,
        logical::failures::many_databases_need_few_connections as many_databases_need_few_connections,
        logical::failures::a_standby_has_nothing_of_unlogged_tables as a_standby_has_nothing_of_unlogged_tables,
        logical::parts::what_was_left_out_stays as what_was_left_out_stays,
        logical::parts::indexes_keep_their_tablespaces as indexes_keep_their_tablespaces,
        logical::odd::texts_keep_their_line_ends as texts_keep_their_line_ends,
        logical::odd::what_is_not_there_is_told as what_is_not_there_is_told,
        logical::odd::merging_follows_foreign_keys as merging_follows_foreign_keys,
        logical::odd::other_names_reach_what_they_can as other_names_reach_what_they_can,
        logical::odd::other_encodings_are_not_compared as other_encodings_are_not_compared,
        logical::odd::many_partitions_need_few_locks as many_partitions_need_few_locks,
        logical::odd::one_of_many_tables_is_enough as one_of_many_tables_is_enough,
        logical::odd::nothing_is_dropped_too_early as nothing_is_dropped_too_early,
        logical::odd::a_backup_takes_its_time as a_logical_backup_takes_its_time,
        logical::odd::definitions_race_with_the_dump as definitions_race_with_the_dump,
        logical::odd::what_locks_do_not_keep_out_is_seen as what_locks_do_not_keep_out_is_seen,
        logical::failures::the_contract_is_kept as the_contract_of_logical_sources_is_kept,
    }
    needs_postgres_18_and_weed Version::V18 => {
        deaths::a_capture_among_the_dying as a_capture_among_the_dying,
        deaths::a_backup_among_the_dying as a_backup_among_the_dying,
    }
    needs_pg_dump_locale Version::V18 => {
        logical::odd::money_is_the_same_in_every_country as money_is_the_same_in_every_country,
    }
    needs_pg_dump_stock Version::V18 => {
        increments::stock_tools_put_the_same_together as stock_tools_put_the_same_together,
        logical::by_hand::restic_and_psql_are_enough as restic_and_psql_are_enough,
    }
    needs_pg_tools Version::V15 => {
        synthetic::stock_tools_find_nothing_wrong as stock_tools_find_nothing_wrong_with_a_full_one_made_of_a_chain,
        stock::stock_tools_find_nothing_wrong as stock_tools_find_nothing_wrong,
        logical::failures::pg_dump_may_be_as_old_as_the_server as pg_dump_may_be_as_old_as_the_server,
    }
    needs_restic_new Version::V15 => {
        stock::restic_and_a_server_are_enough as restic_and_a_server_are_enough,
    }
    needs_postgres_18 Version::V18 => {
        pauses::paused_servers_wait_for_their_promotion as paused_servers_wait_for_their_promotion,
        expected::estimates_of_the_server_are_compared as estimates_of_the_server_are_compared,
        pauses::shutdowns_of_the_original_are_no_obstacle as shutdowns_of_the_original_are_no_obstacle,
        pauses::promotion_starts_a_server_that_does_not_run as promotion_starts_a_server_that_does_not_run,
        pauses::dry_runs_resolve_transactions_and_points as dry_runs_resolve_transactions_and_points,
        slots::slots_given_up_for_idling_cost_no_log as slots_given_up_for_idling_cost_no_log,
        addresses::parameters_reach_the_server as parameters_reach_the_server,
        addresses::methods_of_login_are_demanded as methods_of_login_are_demanded,
        addresses::certificates_are_trusted_themselves as certificates_are_trusted_themselves,
        addresses::servers_are_chosen_by_their_role as servers_are_chosen_by_their_role,
        addresses::applications_share_their_addresses as applications_share_their_addresses,
        addresses::poolers_are_named as poolers_are_named,
        addresses::revoked_certificates_are_refused as revoked_certificates_are_refused,
        copies::copies_run_no_commands_of_originals as copies_run_no_commands_of_originals,
        copies::linked_configuration_comes_along as linked_configuration_comes_along,
        machines::minimal_configurations_start as minimal_configurations_start,
        machines::tablespaces_in_place_start as tablespaces_in_place_start,
        machines::other_collations_are_warned_of as other_collations_are_warned_of,
        debian::debian_layout_is_restored_on_an_empty_machine as debian_layout_is_restored_on_an_empty_machine,
        synthetic::a_chain_becomes_a_full_one as a_chain_becomes_a_full_one,
        workloads::pages_that_nobody_wrote_to as pages_that_nobody_wrote_to,
        workloads::what_dice_do_comes_back as what_dice_do_comes_back,
        workloads::the_log_tells_what_summaries_tell as the_log_tells_what_summaries_tell,
        increments::what_changed_is_enough as what_changed_is_enough,
        increments::visibility_maps_tell_the_truth as visibility_maps_tell_the_truth,
        increments::missing_summaries_cost_nothing as missing_summaries_cost_nothing,
        increments::moments_behind_them_come_back as moments_behind_them_come_back,
        frozen::long_checkpoint_is_waited_for as long_checkpoint_is_waited_for,
        frozen::base_backup_of_a_frozen_server_is_given_up as base_backup_of_a_frozen_server_is_given_up,
        failures::the_right_to_replicate_is_enough as the_right_to_replicate_is_enough,
        failures::what_is_missing_is_named as what_is_missing_is_named,
        failures::a_logical_slot_is_left_alone as a_logical_slot_is_left_alone,
        base::rows_that_differ_have_other_digests as rows_that_differ_have_other_digests,
        failures::certificates_are_checked as certificates_are_checked,
        failures::damaged_pages_are_told as damaged_pages_are_told,
        failures::a_backup_that_is_given_up_leaves_nothing as a_backup_that_is_given_up_leaves_nothing,
        failures::a_directory_that_is_not_empty_is_left_alone as a_directory_that_is_not_empty_is_left_alone,
        base::a_server_starts_on_what_is_restored as a_server_starts_on_what_is_restored,
        logs::every_moment_comes_back as every_moment_comes_back,
        logs::what_was_not_captured_is_refused as what_was_not_captured_is_refused,
        logs::a_promotion_is_followed as a_promotion_is_followed,
        idle::idle_moments_come_back as idle_moments_come_back,
        idle::cut_off_standby_does_not_vouch as cut_off_standby_does_not_vouch,
        program::from_the_first_backup_to_a_running_copy as from_the_first_backup_to_a_running_copy,
        program::without_a_configuration as without_a_configuration,
        program::a_gap_is_followed_by_a_full_backup as a_gap_is_followed_by_a_full_backup,
        program::what_is_wrong_does_not_push_out_what_is_right as what_is_wrong_does_not_push_out_what_is_right,
        archive::files_go_there_and_back as files_go_there_and_back,
        archive::promotions_go_through_the_archive as promotions_go_through_the_archive,
        failures::a_start_that_hangs_is_given_up as a_start_that_hangs_is_given_up,
        followers::second_follower_is_refused_with_the_holder as second_follower_is_refused_with_the_holder,
        followers::daemon_captures_on_after_a_killed_follower as daemon_captures_on_after_a_killed_follower,
        kills::a_killed_capture_has_lost_nothing as a_killed_capture_has_lost_nothing,
        kills::a_killed_backup_leaves_nothing as a_killed_backup_leaves_nothing,
        kills::without_space_nothing_starts as without_space_nothing_starts,
    }
}

fn options(server: &Postgres) -> PostgresOptions {
    PostgresOptions::parse(&server.uri()).unwrap()
}

async fn source(server: &Postgres) -> PostgresSource {
    source_with(options(server)).await
}

async fn source_with(options: PostgresOptions) -> PostgresSource {
    let connected = PostgresSource::connect(options).await;
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

/// A room that servers may enter.
fn room() -> tempfile::TempDir {
    let room = tempfile::tempdir().unwrap();
    hand_over(room.path());
    room
}

async fn back_up(repo: &Repo, source: &PostgresSource) -> BackupReport {
    let report = backup_core::pipeline::backup(
        &repo.repository,
        source,
        &BackupOptions::default(),
        &talking(),
    )
    .await;
    report.unwrap_or_else(|error| panic!("backing up: {} ({:?})", error.chain(), error.hint()))
}

async fn restored(
    snapshot: &SnapshotReader,
    source: &PostgresSource,
    target: &Path,
    request: RestoreRequest,
) -> RestoreReport {
    let report = try_restore(snapshot, source, target, request).await;
    report.unwrap_or_else(|error| panic!("restoring: {} ({:?})", error.chain(), error.hint()))
}

async fn try_restore(
    snapshot: &SnapshotReader,
    source: &PostgresSource,
    target: &Path,
    request: RestoreRequest,
) -> Result<RestoreReport, backup_core::error::Error> {
    let target = Some(target.to_str().unwrap().to_owned());
    restore(snapshot, source, &RestoreRequest { target, verify: true, ..request }, &talking()).await
}

async fn digest(source: &PostgresSource) -> Digest {
    let digest = source.digest(&Context::silent(), &Selection::all()).await;
    digest.unwrap_or_else(|error| panic!("digest: {} ({:?})", error.chain(), error.hint()))
}
