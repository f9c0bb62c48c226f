//! The nftables backend against the real kernel, in namespaces of its own: needs neither root
//! nor the `nft` program.

mod adopting;
mod common;
mod fresh;
mod large;
mod left;
mod meddle;
mod members;
mod networks;
mod skeleton;
mod watching;

use libtest_mimic::{Arguments, Trial};
use nix::sched::{CloneFlags, unshare};
use portcullis::firewall::nftables::{Nftables, Restraints};

fn main() {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(4);
    // No thread before the namespaces.
    common::enter_namespace();
    let mut trials = Vec::new();
    for (name, test) in TESTS {
        for (suffix, no_destroy) in [("", false), (" on an older kernel", true)] {
            let restraints = Restraints {
                no_destroy,
                ..Restraints::default()
            };
            trials.push(Trial::test(format!("{name}{suffix}"), move || {
                // A ruleset of its own.
                unshare(CloneFlags::CLONE_NEWNET)?;
                let mut backend = Nftables::open_restrained(restraints).unwrap();
                test(&mut backend);
                Ok(())
            }));
        }
    }
    libtest_mimic::run(&arguments, trials).exit();
}

type Test = fn(&mut Nftables);

const TESTS: &[(&str, Test)] = &[
    ("nothing_there_is_none", members::nothing_there_is_none),
    ("install_on_empty", members::install_on_empty),
    (
        "installing_again_keeps_times",
        members::installing_again_keeps_times,
    ),
    ("another_process_adopts", members::another_process_adopts),
    (
        "put_renews_and_remove_removes",
        members::put_renews_and_remove_removes,
    ),
    (
        "the_kernel_ends_what_is_over",
        members::the_kernel_ends_what_is_over,
    ),
    (
        "removing_what_is_over_is_no_error",
        members::removing_what_is_over_is_no_error,
    ),
    ("all_changes_or_none", members::all_changes_or_none),
    ("overlapping_networks", networks::overlapping_networks),
    (
        "networks_that_expire_leave_neighbours_alone",
        networks::networks_that_expire_leave_neighbours_alone,
    ),
    (
        "networks_changed_behind_our_back",
        networks::networks_changed_behind_our_back,
    ),
    (
        "the_last_network_there_is",
        networks::the_last_network_there_is,
    ),
    ("a_removed_gate_goes", skeleton::a_removed_gate_goes),
    (
        "a_set_of_another_type_is_replaced",
        skeleton::a_set_of_another_type_is_replaced,
    ),
    (
        "a_base_chain_elsewhere_is_replaced",
        skeleton::a_base_chain_elsewhere_is_replaced,
    ),
    ("foreign_objects_stay", skeleton::foreign_objects_stay),
    ("an_open_gate", members::an_open_gate),
    ("once_can_be_switched", skeleton::once_can_be_switched),
    ("prefixes_of_64", members::prefixes_of_64),
    (
        "impossible_members_are_refused",
        members::impossible_members_are_refused,
    ),
    (
        "earlier_sessions_only_at_first",
        skeleton::earlier_sessions_only_at_first,
    ),
    (
        "all_kinds_of_rules_are_read_back",
        skeleton::all_kinds_of_rules_are_read_back,
    ),
    ("more_than_a_batch_takes", large::more_than_a_batch_takes),
    (
        "addresses_become_networks_and_back",
        large::addresses_become_networks_and_back,
    ),
    (
        "a_port_is_missing_until_it_is_guarded",
        fresh::a_port_is_missing_until_it_is_guarded,
    ),
    (
        "sessions_at_a_new_port_stay",
        fresh::sessions_at_a_new_port_stay,
    ),
    (
        "a_table_half_made_is_no_gate",
        fresh::a_table_half_made_is_no_gate,
    ),
    ("reasons_are_made_to_fit", members::reasons_are_made_to_fit),
    ("hundred_thousand_trusted", large::hundred_thousand_trusted),
    ("ten_thousand_networks", large::ten_thousand_networks),
    ("verify_notices", skeleton::verify_notices),
    (
        "nothing_is_overlooked_while_others_expire",
        adopting::nothing_is_overlooked_while_others_expire,
    ),
    (
        "what_was_not_seen_is_not_deleted",
        adopting::what_was_not_seen_is_not_deleted,
    ),
    (
        "what_somebody_else_adds_is_not_deleted_unseen",
        adopting::what_somebody_else_adds_is_not_deleted_unseen,
    ),
    (
        "a_network_in_the_way_is_kept",
        adopting::a_network_in_the_way_is_kept,
    ),
    (
        "a_set_made_anew_loses_nothing_unseen",
        adopting::a_set_made_anew_loses_nothing_unseen,
    ),
    (
        "what_is_over_is_not_known_any_more",
        adopting::what_is_over_is_not_known_any_more,
    ),
    (
        "others_are_heard_and_we_are_not",
        watching::others_are_heard_and_we_are_not,
    ),
    (
        "what_was_lost_is_everything",
        watching::what_was_lost_is_everything,
    ),
    (
        "an_older_kernel_has_no_tables_for_us_alone",
        watching::an_older_kernel_has_no_tables_for_us_alone,
    ),
    ("teardown_twice", members::teardown_twice),
];
