//! The table: what one frame after the other must cause. Each group of cases is a test for each
//! mechanism that attaches programs.

use crate::edge::{Attach, Edge, shared};
use anyhow::Result;

/// A part of the table: one or several configurations and their cases.
type Group = fn(&mut Edge, Attach) -> Result<()>;

fn run(attach: Attach, group: Group) -> Result<()> {
    if !Attach::all()?.contains(&attach) {
        println!("skipped: {attach:?} takes Linux 6.6, or is not in TEST_ATTACH");
        return Ok(());
    }
    shared(attach, |edge| group(edge, attach))
}

macro_rules! table {
    ($($test:ident => $module:ident::$group:ident,)*) => {
        mod tcx {
            $(
                #[test]
                fn $test() -> anyhow::Result<()> {
                    super::run(super::Attach::Tcx, crate::$module::$group)
                }
            )*
        }

        mod clsact {
            $(
                #[test]
                fn $test() -> anyhow::Result<()> {
                    super::run(super::Attach::Clsact, crate::$module::$group)
                }
            )*
        }
    };
}

table! {
    filters_match_by_protocol => filters::protocols,
    filters_match_by_port => filters::ports,
    filters_match_by_network => filters::networks,
    bidirectional_filters_match_both_ways => filters::bidirectional,
    what_is_excluded_is_not_copied => filters::excludes,
    each_endpoint_gets_one_copy => filters::several_endpoints,
    filters_match_on_their_interfaces_and_directions => filters::scopes,
    what_is_switched_off_matches_nothing => filters::switches,
    counters_go_on_across_a_change => filters::counters_across_a_change,
    plain_headers_are_matched_and_copied => headers::plain,
    ipv4_options_are_passed_over => headers::ipv4,
    ipv6_extension_headers_are_passed_over => headers::ipv6_extensions,
    headers_that_are_cut_off_or_lie_are_counted => headers::cut_off_and_lies,
    packets_in_pieces_of_memory_are_matched_and_copied => headers::scattered,
    open_checksums_are_completed_in_copies => headers::open_checksums,
    later_fragments_match_as_their_first => fragments::in_order,
    fragments_before_their_first_have_any_port => fragments::out_of_order,
    later_fragments_without_a_first_have_any_port => fragments::alone,
    forged_first_fragments_hide_nothing => unknown::forgeries,
    tiny_first_fragments_hide_nothing => unknown::tiny,
    what_cannot_be_read_excludes_nothing => unknown::excludes,
    what_cannot_be_read_is_counted_by_reason => unknown::skipped,
    copies_and_what_looks_like_them_are_told_apart => loops::frames,
    tagged_frames_are_matched_behind_their_tags => link::tags,
    filters_match_by_vlan => link::vlans,
    padding_is_not_copied => link::padding,
    what_is_not_ip_is_counted => link::not_ip,
    broadcast_and_multicast_are_mirrored => link::groups,
}
