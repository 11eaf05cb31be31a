//! Scenarios of the oldest and the newest version, with versions in between.

use super::{Version, addresses, copies, debian, expected, logical, machines, pauses, slots};

macro_rules! scenarios {
    ($module:ident $version:expr => { $($scenario:path as $name:ident),+ $(,)? }) => {
        mod $module {
            use super::*;
            $(
                #[ignore = "a version in between: scripts/test --long"]
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    Box::pin($scenario($version)).await;
                }
            )+
        }
    };
}

macro_rules! physical {
    ($module:ident $version:expr) => {
        scenarios! { $module $version => {
            addresses::servers_are_chosen_by_their_role as servers_are_chosen_by_their_role,
            addresses::certificates_are_trusted_themselves as certificates_are_trusted_themselves,
            copies::copies_run_no_commands_of_originals as copies_run_no_commands_of_originals,
            copies::linked_configuration_comes_along as linked_configuration_comes_along,
            debian::debian_layout_is_restored_on_an_empty_machine as debian_layout_is_restored_on_an_empty_machine,
            expected::estimates_of_the_server_are_compared as estimates_of_the_server_are_compared,
            machines::minimal_configurations_start as minimal_configurations_start,
            pauses::paused_servers_wait_for_their_promotion as paused_servers_wait_for_their_promotion,
            pauses::dry_runs_resolve_transactions_and_points as dry_runs_resolve_transactions_and_points,
            slots::an_outage_is_reported_within_seconds as an_outage_is_reported_within_seconds,
        } }
    };
}

macro_rules! logical {
    ($module:ident $version:expr) => {
        scenarios! { $module $version => {
            logical::beside::copies_are_not_tied_to_originals as copies_are_not_tied_to_originals,
            logical::beside::copies_leave_the_originals_alone as copies_leave_the_originals_alone,
            logical::compare::compare_names_tables_that_differ as compare_names_tables_that_differ,
            logical::loadable::bytes_without_an_encoding_come_back as bytes_without_an_encoding_come_back,
            logical::loadable::materialized_views_come_alone as materialized_views_come_alone,
            logical::loadable::names_keep_their_line_ends as names_keep_their_line_ends,
            logical::loadable::rows_find_their_partitions as rows_find_their_partitions,
            logical::owners::owners_restore_their_own as owners_restore_their_own,
            logical::plans::plans_count_rows_of_snapshot_and_target as plans_count_rows_of_snapshot_and_target,
            logical::public::copies_of_public_are_as_open as copies_of_public_are_as_open,
            logical::public::new_schemas_are_open_to_owners_of_their_tables as new_schemas_are_open_to_owners_of_their_tables,
            logical::public::owners_copy_their_public as owners_copy_their_public,
            logical::in_use::schemas_in_use_keep_their_privileges as schemas_in_use_keep_their_privileges,
            logical::in_use::plans_name_every_object_that_goes as plans_name_every_object_that_goes,
            logical::grants::grants_follow_their_objects as grants_follow_their_objects,
            logical::refused::missing_operator_classes_are_warnings as missing_operator_classes_are_warnings,
            logical::refused::refused_objects_leave_the_rest as refused_objects_leave_the_rest,
        } }
    };
}

physical!(needs_postgres_15 Version::V15);
physical!(needs_postgres_17 Version::V17);
logical!(needs_pg_dump_15 Version::V15);
logical!(needs_pg_dump_17 Version::V17);
