//! MongoDB.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | what the scenarios share, and each of them for each version of the server |
//! | `odd.rs` | everything that can be in a database |
//! | `round_trip.rs` | backup and restore of it, the conformance suite, selections, renames, conflicts |
//! | `bytes.rs` | documents and definitions that no map of values holds |
//! | `generated.rs` | generated documents and changes, byte for byte through everything |
//! | `small.rs` | many small collections |
//! | `cut.rs` | many small collections of all kinds, and restores that are killed among them |
//! | `slow.rs` | a source that is read slowly, for things to happen meanwhile |
//! | `workload.rs` | writers and schema changers that spare nothing |
//! | `hostile.rs` | backups while they are at work, and the fold to one exact moment |
//! | `capped.rs` | the order of capped collections, and what members agree on |
//! | `members.rs` | replica sets of three members |
//! | `tail.rs` | following the oplog |
//! | `logs.rs` | the oplog in a repository, and restoring to any moment |
//! | `lineage.rs` | sets of one name |
//! | `idle.rs` | moments at which nothing happened |
//! | `parts.rs` | restoring a part of it by the log |
//! | `built_on.rs` | incremental and differential snapshots, and full ones made of them |
//! | `failover.rs` | the same on sets whose members lag, die and take back |
//! | `prepared.rs` | the same with transactions that are prepared |
//! | `damaged.rs` | what is not built on because the repository has lost something |
//! | `unknown.rs` | operations that no fold can apply |
//! | `unusual.rs` | rare entries of the oplog |
//! | `verified.rs` | restores that are read back |
//! | `moments.rs` | the program, restoring to a moment and in part |
//! | `kills.rs` | the program, killed at any moment |
//! | `deaths.rs` | what the program works with, killed at any moment |
//! | `ranges.rs` | reading large collections |
//! | `targets.rs` | targets that fail, change or take their time |
//! | `told.rs` | what is told of servers and snapshots |
//! | `own.rs` | servers and tools that the environment names |
//! | `replaced.rs` | objects, users and roles that a restore replaces, removes and leaves |
//! | `named.rs` | databases that addresses name |
//! | `merged.rs` | documents that are merged into others |
//! | `refused.rs` | definitions that the target refuses |
//! | `rights.rs` | users with few rights |
//! | `failures.rs` | servers that die or cannot be used |
//! | `frozen.rs` | servers that stop answering, and commands that take long |
//! | `selections.rs` | selections that match nothing |
//! | `silent.rs` | members that stop answering, and others in their place |
//! | `addresses.rs` | addresses that lead to no server |
//! | `names.rs` | names and definitions that are not valid UTF-8 |
//! | `srv.rs` | addresses of `mongodb+srv`, by a double of the DNS |
//! | `imports.rs` | old dumps of mongodump that become snapshots, and archives that are exported |
//! | `program.rs` | the program, from the first backup to a restored copy |

mod addresses;
mod built_on;
mod bytes;
mod capped;
mod cut;
mod damaged;
mod deaths;
mod failover;
mod failures;
mod frozen;
mod generated;
mod hostile;
mod idle;
mod imports;
mod kills;
mod lineage;
mod logs;
mod members;
mod merged;
mod moments;
mod named;
mod names;
mod odd;
mod own;
mod parts;
mod prepared;
mod program;
mod ranges;
mod refused;
mod replaced;
mod rights;
mod round_trip;
mod selections;
mod silent;
mod slow;
mod small;
mod srv;
mod tail;
mod targets;
mod told;
mod unknown;
mod unusual;
mod verified;
mod workload;

use std::sync::Arc;

use backup_core::context::Context;
use backup_core::crypto::Passphrase;
use backup_core::event::{Event, Events, Reporter};
use backup_core::pipeline::{BackupOptions, backup, restore};
use backup_core::repository::{InitOptions, Repository, SnapshotReader};
use backup_core::source::{RestoreReport, RestoreRequest, Selection, Source};
use backup_core::testing::MemorySink;
use backup_sources::mongodb::{MongoOptions, MongoSource, SnapshotReads};

use crate::support::mongod::{Mongod, Version};

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
    needs_mongod_4_4_and_5_0 Version::V4_4 => {
        merged::fields_with_a_dollar_reach_an_older_server as fields_with_a_dollar_reach_an_older_server,
    }
    needs_mongod_5_0_and_6_0 Version::V5_0 => {
        refused::definitions_of_a_newer_server_are_refused_at_once as definitions_of_a_newer_server_are_refused_at_once,
    }
    needs_mongod_6_0_and_4_4 Version::V6_0 => {
        refused::haystack_indexes_are_converted as haystack_indexes_are_converted,
    }
    needs_mongod_4_4 Version::V4_4 => {
        names::collection_with_an_invalid_name_is_left_out_alone as collection_with_an_invalid_name_is_left_out_alone,
        bytes::every_byte_comes_back as every_byte_comes_back,
        unusual::rare_entries_are_applied as rare_entries_are_applied,
        verified::broken_folds_are_seen as broken_folds_are_seen,
        generated::generated_documents_come_back as generated_documents_come_back,
        #[ignore = "runs on the newest version; others: scripts/test --long"]
        lineage::sets_of_one_name_do_not_mix as sets_of_one_name_do_not_mix,
        built_on::what_is_built_on_others_is_exact as what_is_built_on_others_is_exact,
        built_on::everything_comes_by_the_oplog as everything_comes_by_the_oplog,
        failover::what_is_taken_back_is_in_no_snapshot as what_is_taken_back_is_in_no_snapshot,
        #[ignore = "runs on the newest version; others: scripts/test --long"]
        kills::a_killed_backup_leaves_nothing_half as a_killed_backup_leaves_nothing_half,
        #[ignore = "runs on the newest version; others: scripts/test --long"]
        kills::a_killed_capture_has_lost_nothing as a_killed_capture_has_lost_nothing,
        #[ignore = "runs on the newest version; others: scripts/test --long"]
        kills::a_killed_restore_is_done_again as a_killed_restore_is_done_again,
        prepared::prepared_transactions_may_cross_borders as prepared_transactions_may_cross_borders,
        logs::every_moment_comes_back as every_moment_comes_back,
        idle::idle_moments_come_back as idle_moments_come_back,
        failures::an_index_that_is_being_built_is_left_out as an_index_that_is_being_built_is_left_out,
        ranges::a_large_collection_is_read_by_ranges as a_large_collection_is_read_by_ranges,
        #[ignore = "runs on the newest version; others: scripts/test --long"]
        ranges::sessions_that_end_are_made_up_for as sessions_that_end_are_made_up_for,
        tail::the_oplog_is_followed as the_oplog_is_followed,
        tail::what_is_gone_is_a_gap as what_is_gone_is_a_gap,
        tail::what_is_taken_back_was_never_seen as what_is_taken_back_was_never_seen,
        round_trip::everything_comes_back as everything_comes_back,
        capped::a_secondary_has_the_order_of_the_oplog as a_secondary_has_the_order_of_the_oplog,
        hostile::the_fold_is_exact as the_fold_is_exact,
        round_trip::conformance as conformance,
        addresses::tls_failure_is_named_with_the_cause as tls_failure_is_named_with_the_cause,
        silent::backup_reads_another_member_than_a_silent_one as backup_reads_another_member_than_a_silent_one,
        imports::imported_dump_joins_the_job as imported_dump_joins_the_job,
        imports::oplog_brings_a_dump_to_one_moment as oplog_brings_a_dump_to_one_moment,
        imports::exported_archive_equals_an_exported_directory as exported_archive_equals_an_exported_directory,
    }
    needs_mongod_5_0 Version::V5_0 => {
        #[ignore = "a version in between: scripts/test --long"]
        generated::generated_documents_come_back as generated_documents_come_back,
        bytes::every_byte_comes_back as every_byte_comes_back,
        unusual::rare_entries_are_applied as rare_entries_are_applied,
        merged::fields_with_a_dollar_are_merged as fields_with_a_dollar_are_merged,
        #[ignore = "a version in between: scripts/test --long"]
        built_on::what_is_built_on_others_is_exact as what_is_built_on_others_is_exact,
        #[ignore = "a version in between: scripts/test --long"]
        built_on::everything_comes_by_the_oplog as everything_comes_by_the_oplog,
        #[ignore = "a version in between: scripts/test --long"]
        failover::what_is_taken_back_is_in_no_snapshot as what_is_taken_back_is_in_no_snapshot,
        #[ignore = "a version in between: scripts/test --long"]
        kills::a_killed_backup_leaves_nothing_half as a_killed_backup_leaves_nothing_half,
        #[ignore = "a version in between: scripts/test --long"]
        kills::a_killed_capture_has_lost_nothing as a_killed_capture_has_lost_nothing,
        #[ignore = "a version in between: scripts/test --long"]
        kills::a_killed_restore_is_done_again as a_killed_restore_is_done_again,
        #[ignore = "a version in between: scripts/test --long"]
        prepared::prepared_transactions_may_cross_borders as prepared_transactions_may_cross_borders,
        #[ignore = "a version in between: scripts/test --long"]
        logs::every_moment_comes_back as every_moment_comes_back,
        #[ignore = "a version in between: scripts/test --long"]
        tail::the_oplog_is_followed as the_oplog_is_followed,
        #[ignore = "a version in between: scripts/test --long"]
        tail::what_is_gone_is_a_gap as what_is_gone_is_a_gap,
        #[ignore = "a version in between: scripts/test --long"]
        tail::what_is_taken_back_was_never_seen as what_is_taken_back_was_never_seen,
        #[ignore = "a version in between: scripts/test --long"]
        capped::a_secondary_has_the_order_of_the_oplog as a_secondary_has_the_order_of_the_oplog,
        #[ignore = "a version in between: scripts/test --long"]
        round_trip::everything_comes_back as everything_comes_back,
        #[ignore = "a version in between: scripts/test --long"]
        hostile::the_fold_is_exact as the_fold_is_exact,
        #[ignore = "a version in between: scripts/test --long"]
        imports::imported_dump_joins_the_job as imported_dump_joins_the_job,
        #[ignore = "a version in between: scripts/test --long"]
        imports::oplog_brings_a_dump_to_one_moment as oplog_brings_a_dump_to_one_moment,
        #[ignore = "a version in between: scripts/test --long"]
        imports::exported_archive_equals_an_exported_directory as exported_archive_equals_an_exported_directory,
    }
    needs_mongod_6_0 Version::V6_0 => {
        names::collection_with_an_invalid_name_is_left_out_alone as collection_with_an_invalid_name_is_left_out_alone,
        bytes::every_byte_comes_back as every_byte_comes_back,
        unusual::rare_entries_are_applied as rare_entries_are_applied,
        lineage::sets_of_one_name_do_not_mix as sets_of_one_name_do_not_mix,
        lineage::log_without_a_branch_goes_on as log_without_a_branch_goes_on,
        built_on::what_is_built_on_others_is_exact as what_is_built_on_others_is_exact,
        built_on::everything_comes_by_the_oplog as everything_comes_by_the_oplog,
        built_on::what_cannot_be_built_on_is_read_in_full as what_cannot_be_built_on_is_read_in_full,
        built_on::what_a_transaction_creates_is_not_overlooked as what_a_transaction_creates_is_not_overlooked,
        damaged::what_lost_something_is_not_built_on as what_lost_something_is_not_built_on,
        damaged::what_is_lost_costs_nothing_at_the_target as what_is_lost_costs_nothing_at_the_target,
        told::a_short_oplog as a_short_oplog_is_told,
        told::remarks_of_a_snapshot as remarks_of_a_snapshot,
        told::the_write_concern_of_a_restore as the_write_concern_of_a_restore,
        told::ignored_options_of_the_address_are_named as ignored_options_of_the_address_are_named,
        targets::what_no_majority_has_is_an_error as what_no_majority_has_is_an_error,
        targets::nobody_sees_half_a_collection as nobody_sees_half_a_collection,
        targets::two_restores_at_once as two_restores_at_once,
        targets::another_primary_is_an_error as another_primary_is_an_error,
        targets::no_password_lies_about as no_password_lies_about,
        targets::few_batches_wait_for_a_slow_target as few_batches_wait_for_a_slow_target,
        round_trip::merging_spares_what_is_in_the_place_of_a_view as merging_spares_what_is_in_the_place_of_a_view,
        failover::a_member_that_lags_adds_nothing_wrong as a_member_that_lags_adds_nothing_wrong,
        failover::what_is_taken_back_is_in_no_snapshot as what_is_taken_back_is_in_no_snapshot,
        prepared::prepared_transactions_may_cross_borders as prepared_transactions_may_cross_borders,
        prepared::a_backup_does_not_wait_for_what_is_prepared as a_backup_does_not_wait_for_what_is_prepared,
        kills::a_killed_backup_leaves_nothing_half as a_killed_backup_leaves_nothing_half,
        kills::a_killed_capture_has_lost_nothing as a_killed_capture_has_lost_nothing,
        kills::a_killed_restore_is_done_again as a_killed_restore_is_done_again,
        logs::every_moment_comes_back as every_moment_comes_back,
        idle::idle_moments_come_back as idle_moments_come_back,
        logs::the_log_is_close_behind as alone_the_log_is_close_behind,
        logs::what_was_not_captured_is_refused as what_was_not_captured_is_refused,
        parts::a_part_reads_less_of_the_log as a_part_reads_less_of_the_log,
        selections::misspelt_selection_is_no_backup as misspelt_selection_is_no_backup,
        ranges::a_large_collection_is_read_by_ranges as a_large_collection_is_read_by_ranges,
        ranges::other_collections_are_read_by_one_cursor as other_collections_are_read_by_one_cursor,
        ranges::sessions_that_end_are_made_up_for as sessions_that_end_are_made_up_for,
        ranges::a_limit_is_kept as a_limit_is_kept,
        tail::the_oplog_is_followed as the_oplog_is_followed,
        tail::what_is_gone_is_a_gap as what_is_gone_is_a_gap,
        tail::what_is_taken_back_was_never_seen as what_is_taken_back_was_never_seen,
        capped::a_secondary_has_the_order_of_the_oplog as a_secondary_has_the_order_of_the_oplog,
        round_trip::everything_comes_back as everything_comes_back,
        round_trip::everything_comes_back_by_the_oplog as everything_comes_back_by_the_oplog,
        round_trip::conformance as conformance,
        round_trip::conformance_of_a_standalone_server as conformance_of_a_standalone_server,
        round_trip::other_names_and_parts as other_names_and_parts,
        round_trip::what_is_there_already as what_is_there_already,
        round_trip::replacing_spares_what_was_left_out as replacing_spares_what_was_left_out,
        round_trip::the_tree_is_mongodumps as the_tree_is_mongodumps,
        round_trip::an_export_is_the_dump as an_export_is_the_dump,
        round_trip::an_export_has_the_expected_files as an_export_has_the_expected_files,
        members::a_secondary_is_read as a_secondary_is_read,
        members::a_failover_is_survived as a_failover_is_survived,
        round_trip::ttl_may_be_deferred as ttl_may_be_deferred,
        hostile::the_fold_is_exact as the_fold_is_exact,
        hostile::an_older_server_takes_it as an_older_server_takes_it,
        hostile::a_snapshot_read_is_one_moment as a_snapshot_read_is_one_moment,
        hostile::history_that_is_gone_is_made_up_for as history_that_is_gone_is_made_up_for,
        named::database_of_a_target_is_written_to as database_of_a_target_is_written_to,
        named::several_databases_are_not_restored_into_one as several_databases_are_not_restored_into_one,
        named::restore_into_a_database_leaves_users_out as restore_into_a_database_leaves_users_out,
        named::database_of_a_source_is_backed_up_alone as database_of_a_source_is_backed_up_alone,
        named::database_of_a_configured_source as database_of_a_configured_source,
        named::hidden_databases_are_no_part_of_the_snapshot as hidden_databases_are_no_part_of_the_snapshot,
        merged::fields_with_a_dollar_are_merged as fields_with_a_dollar_are_merged,
        replaced::replace_drops_only_collections_of_the_snapshot as replace_drops_only_collections_of_the_snapshot,
        replaced::delete_removes_only_planned_objects as delete_removes_only_planned_objects,
        replaced::unmatched_rename_leaves_target_unchanged as unmatched_rename_leaves_target_unchanged,
        replaced::replace_replaces_users_and_roles as replace_replaces_users_and_roles,
        replaced::users_are_compared_before_data_is_written as users_are_compared_before_data_is_written,
        replaced::capped_collection_leaves_all_counts_known as capped_collection_leaves_all_counts_known,
        replaced::incomplete_snapshot_names_missing_parts as incomplete_snapshot_names_missing_parts,
        replaced::restore_failure_leaves_no_half_collection as restore_failure_leaves_no_half_collection,
        replaced::hint_of_a_denied_restore_can_be_run as hint_of_a_denied_restore_can_be_run,
        small::small_collections_are_restored_together as small_collections_are_restored_together,
        cut::killed_restore_shows_no_half_collection as killed_restore_shows_no_half_collection,
        cut::definitions_are_equal_byte_by_byte as definitions_are_equal_byte_by_byte,
        cut::progress_counts_collections as progress_counts_collections,
        cut::merge_refuses_other_kinds_before_writing as merge_refuses_other_kinds_before_writing,
        rights::the_role_backup_is_enough as the_role_backup_is_enough,
        rights::what_is_denied_names_the_role as what_is_denied_names_the_role,
        rights::users_come_back as users_come_back,
        rights::the_roles_for_restoring_are_enough as the_roles_for_restoring_are_enough,
        rights::privileges_of_atlas_restore_data_without_users as privileges_of_atlas_restore_data_without_users,
        rights::tls_with_an_authority_of_ones_own as tls_with_an_authority_of_ones_own,
        failures::cursors_that_are_killed_are_made_up_for as cursors_that_are_killed_are_made_up_for,
        failures::a_server_that_dies_leaves_no_snapshot as a_server_that_dies_leaves_no_snapshot,
        frozen::backup_of_a_frozen_server_is_given_up as backup_of_a_frozen_server_is_given_up,
        frozen::long_command_is_waited_for as long_command_is_waited_for,
        silent::backup_reads_another_member_than_a_silent_one as backup_reads_another_member_than_a_silent_one,
        silent::incremental_backup_reads_another_member as incremental_backup_reads_another_member,
        silent::capture_follows_another_member as capture_follows_another_member,
        silent::silent_target_is_named as silent_target_is_named,
        addresses::unreachable_server_is_named_with_the_cause as unreachable_server_is_named_with_the_cause,
        addresses::refused_credentials_are_reported_at_once as refused_credentials_are_reported_at_once,
        addresses::tls_failure_is_named_with_the_cause as tls_failure_is_named_with_the_cause,
        names::invalid_text_in_definitions_is_restored as invalid_text_in_definitions_is_restored,
        srv::records_lead_to_the_replica_set as records_lead_to_the_replica_set,
        moments::position_itself_is_left_out as position_itself_is_left_out,
        failures::an_index_that_is_being_built_is_left_out as an_index_that_is_being_built_is_left_out,
        failures::a_restore_that_was_cut_off_is_done_again as a_restore_that_was_cut_off_is_done_again,
        failures::a_target_that_dies_is_an_error as a_target_that_dies_is_an_error,
        rights::a_certificate_is_enough as a_certificate_is_enough,
        failures::a_wrong_address_tells_no_secret as a_wrong_address_tells_no_secret,
        program::from_the_first_backup_to_a_copy as from_the_first_backup_to_a_copy,
        program::by_a_configuration as by_a_configuration,
        moments::to_a_moment_and_in_part as to_a_moment_and_in_part,
        imports::imported_dump_joins_the_job as imported_dump_joins_the_job,
        imports::oplog_brings_a_dump_to_one_moment as oplog_brings_a_dump_to_one_moment,
        imports::dump_of_one_database_is_a_part as dump_of_one_database_is_a_part,
        imports::damaged_dumps_become_no_snapshot as damaged_dumps_become_no_snapshot,
        imports::exported_archive_equals_an_exported_directory as exported_archive_equals_an_exported_directory,
        imports::lists_and_bare_names_select_collections as lists_and_bare_names_select_collections,
        verified::what_is_not_as_it_was_is_an_error as what_is_not_as_it_was_is_an_error,
        verified::broken_folds_are_seen as broken_folds_are_seen,
        generated::generated_documents_come_back as generated_documents_come_back,
        unknown::backup_becomes_full as backup_with_an_unknown_entry_becomes_full,
        unknown::log_has_a_gap as log_with_an_unknown_entry_has_a_gap,
        unknown::others_are_restored as others_are_restored_beside_an_unknown_entry,
    }
}

scenarios! {
    needs_mongod_6_0_and_weed Version::V6_0 => {
        deaths::a_backup_among_the_dying as a_backup_among_the_dying,
        deaths::a_capture_among_the_dying as a_capture_among_the_dying,
        deaths::a_restore_among_the_dying as a_restore_among_the_dying,
    }
}

scenarios! {
    needs_own_mongod Version::Own => {
        #[ignore = "needs a server: set MONGOD to a mongod of 6.0 or later"]
        own::everything_comes_back as everything_comes_back,
        #[ignore = "needs a server: set MONGOD to a mongod of 6.0 or later"]
        hostile::the_fold_is_exact as the_fold_is_exact,
        #[ignore = "needs a server: set MONGOD to a mongod of 6.0 or later"]
        logs::every_moment_comes_back as every_moment_comes_back,
        #[ignore = "needs a server: set MONGOD to a mongod of 6.0 or later"]
        built_on::what_is_built_on_others_is_exact as what_is_built_on_others_is_exact,
        #[ignore = "needs a server: set MONGOD to a mongod of 6.0 or later"]
        tail::what_is_gone_is_a_gap as what_is_gone_is_a_gap,
        #[ignore = "needs a server: set MONGOD to a mongod of 6.0 or later"]
        rights::users_come_back as users_come_back,
    }
    needs_own_mongodump_4_4 Version::V4_4 => {
        #[ignore = "needs MongoDB's tools: set MONGODUMP"]
        own::an_export_is_what_mongodump_writes as an_export_is_what_mongodump_writes,
        #[ignore = "needs MongoDB's tools: set MONGODUMP"]
        imports::dump_of_stock_mongodump_comes_back as dump_of_stock_mongodump_comes_back,
    }
    needs_own_mongodump_6_0 Version::V6_0 => {
        #[ignore = "needs MongoDB's tools: set MONGODUMP"]
        own::an_export_is_what_mongodump_writes as an_export_is_what_mongodump_writes,
        #[ignore = "needs MongoDB's tools: set MONGODUMP"]
        imports::dump_of_stock_mongodump_comes_back as dump_of_stock_mongodump_comes_back,
    }
    needs_own_mongorestore_4_4 Version::V4_4 => {
        #[ignore = "needs MongoDB's tools: set MONGORESTORE"]
        own::mongorestore_takes_an_export as mongorestore_takes_an_export,
        #[ignore = "needs MongoDB's tools: set MONGORESTORE"]
        imports::stock_mongorestore_takes_archives as stock_mongorestore_takes_archives,
    }
    needs_own_mongorestore_6_0 Version::V6_0 => {
        #[ignore = "needs MongoDB's tools: set MONGORESTORE"]
        own::mongorestore_takes_an_export as mongorestore_takes_an_export,
        #[ignore = "needs MongoDB's tools: set MONGORESTORE"]
        imports::stock_mongorestore_takes_archives as stock_mongorestore_takes_archives,
    }
}

fn options(server: &Mongod) -> MongoOptions {
    MongoOptions::new(server.uri())
}

/// A source that reads collections one by one, with the oplog.
async fn by_the_oplog(server: &Mongod) -> MongoSource {
    MongoSource::connect(MongoOptions { snapshot_reads: SnapshotReads::Never, ..options(server) })
        .await
        .unwrap()
}

async fn source(server: &Mongod) -> MongoSource {
    MongoSource::connect(options(server)).await.unwrap()
}

async fn repository() -> Repository {
    let sink = Arc::new(MemorySink::new());
    Repository::init(sink, &Passphrase::generate(), &InitOptions::default(), &Context::silent())
        .await
        .unwrap()
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

async fn snapshot_of(source: &dyn Source, selection: Selection) -> SnapshotReader {
    let repository = repository().await;
    let options = BackupOptions { selection, ..BackupOptions::default() };
    let report = backup(&repository, source, &options, &talking()).await;
    let report = report.unwrap_or_else(|error| panic!("backing up: {}", error.chain()));
    assert_eq!(report.warnings, 0);
    let list = repository.snapshots(&Context::silent()).await.unwrap();
    let info = list.snapshots.iter().find(|info| Some(info.id) == report.snapshot).unwrap();
    repository.load_index(&Context::silent()).await.unwrap().snapshot(info)
}

async fn try_restore(
    snapshot: &SnapshotReader,
    target: &MongoSource,
    request: RestoreRequest,
) -> Result<RestoreReport, backup_core::error::Error> {
    restore(snapshot, target, &request, &talking()).await
}

async fn restored(
    snapshot: &SnapshotReader,
    target: &MongoSource,
    request: RestoreRequest,
) -> RestoreReport {
    let report = try_restore(snapshot, target, request).await;
    report.unwrap_or_else(|error| panic!("restoring: {} ({:?})", error.chain(), error.hint()))
}

fn verified() -> RestoreRequest {
    RestoreRequest { verify: true, ..RestoreRequest::default() }
}
