//! The one list of what every store must do: each sentence of the traits' docs has a test.
//!
//! An implementation says `store_contract!(fresh_store);` with an
//! `async fn fresh_store() -> Option<Fresh>` (None: there is no service to test with). The macro
//! names the tests, so one that is not listed is dead code and fails the build.

pub(super) mod accounts;
pub(super) mod append;
pub(super) mod fixture;
pub(super) mod groups;
pub(super) mod message_state;
pub(super) mod moderation;
pub(super) mod pages;
pub(super) mod pending;
pub(super) mod races;
pub(super) mod reading;
pub(super) mod reads;
pub(super) mod secret;
pub(super) mod trim;

use std::any::Any;
use std::sync::Arc;

use super::Store;

/// An empty store and what must live as long as it.
pub(super) struct Fresh {
    pub(super) store: Arc<dyn Store>,
    /// Dropped after the store; cleans up.
    pub(super) guard: Box<dyn Any + Send>,
}

macro_rules! store_contract {
    ($fresh:path) => {
        crate::store::contract::store_contract! { @tests $fresh;
            append {
                what_an_entry_holds_is_read_back
                a_run_lands_in_order
                a_taken_position_refuses_a_run
                a_taken_key_lands_what_stands_before_it
                a_key_stands_once_in_a_run
                a_key_is_unique_in_its_stream_only
                a_position_has_one_winner
                concurrent_appenders_leave_no_hole
                a_thousand_streams_at_once
                an_abandoned_append_leaves_a_prefix
            }
            reads {
                the_head_of_an_empty_stream_is_zero
                heads_come_in_the_order_asked
                entries_are_bounded_on_both_sides_and_by_a_limit
                the_newest_entries_come_first
                a_key_is_found_in_its_stream_only
                what_is_committed_is_read_at_once
            }
            pages {
                pages_go_both_ways
                a_page_around_a_message_has_two_halves
                pages_hold_deleted_messages
                pinned_messages_come_in_pages
                messages_at_positions_come_ascending
                versions_tell_what_decides_a_message
            }
            pending {
                entries_are_pending_since_they_were_made
                settled_entries_are_pending_no_more
                pending_entries_of_a_stream_come_in_pages
                streams_with_pending_entries_are_told_apart
                all_pending_entries_come_in_pages
                what_was_committed_lately_is_found
                marks_later_than_a_time_are_found
                a_claim_compares_when_it_was_last_taken
                of_claims_at_the_time_seen_one_wins
                one_of_many_claims_wins
            }
            trim {
                trimming_spares_messages_and_pending_entries
                a_head_survives_trimming_everything
                the_floor_never_falls
                the_floor_stays_under_the_head
                a_long_stream_is_trimmed_at_once
                trimming_twice_at_once_does_no_harm
                old_entries_are_found_in_pages
                behind_a_young_entry_nobody_looks
            }
            message_state {
                an_edit_moves_its_content_into_the_message
                an_edit_moves_whom_it_mentions_into_the_message
                a_late_or_repeated_edit_changes_nothing
                every_read_shows_a_message_as_it_is_now
                a_deletion_reaches_every_copy
                a_deleted_message_stays_deleted
                reactions_are_counted_and_the_first_three_named
                who_reacts_is_told_in_pages
                an_emoji_keeps_its_place_while_it_is_used
                a_repeated_reaction_changes_nothing
                a_late_or_repeated_pin_changes_nothing
                changes_of_what_is_no_message_have_no_effect
            }
            races {
                who_applies_to_a_channel_does_not_matter
                who_applies_to_a_group_does_not_matter
            }
            groups {
                a_group_starts_with_members_and_channels
                a_name_changes_with_the_version
                an_edit_lease_lasts_until_the_log_says_otherwise
                members_come_and_go_and_come_back
                channels_come_and_go
                a_deleted_group_is_in_no_list
                a_large_group_is_read_without_its_members
                who_applies_a_turn_first_decides_it
                applying_again_changes_nothing
                members_come_in_pages
                memberships_come_in_pages
                acquaintances_are_named_once
                who_shares_a_group_is_told_from_others
            }
            moderation {
                a_ban_removes_and_stays_until_taken_back
                bans_come_in_pages
                a_mute_outlasts_membership
                ownership_changes_hands_at_once
                slow_mode_is_a_channels_setting
                invites_are_made_used_and_withdrawn
                invites_come_in_pages
            }
            reading {
                a_mark_rises_and_never_falls
                marks_are_found_by_users_and_channels
                of_marks_at_once_the_highest_stands
                where_a_member_begins_is_set_once_for_each_coming
                ends_come_with_the_number_of_messages
                a_place_counts_the_messages_up_to_it
                the_last_messages_sent_are_found
                mentions_are_counted_behind_a_position
                mentions_are_counted_so_far_for_each_channel
                what_is_refused_is_not_counted
            }
            accounts {
                the_installation_keeps_its_name
                the_first_layout_stands
                an_epoch_follows_another
                a_check_passes_and_changes_nothing
                a_lease_has_one_holder
                one_of_many_gets_a_lease
                a_lease_ends
                a_username_is_given_once
                two_at_once_get_one_account
                users_are_found_by_id
                users_are_found_by_name
                a_late_rename_changes_nothing
                sessions_are_listed_until_revoked
                a_session_created_again_stays_as_it_is
                a_refresh_token_is_exchanged_once
                one_of_many_exchanges_wins
            }
        }
    };
    (@tests $fresh:path; $($area:ident { $($name:ident)* })*) => {
        $(mod $area {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $name() {
                let Some(fresh) = $fresh().await else {
                    return;
                };
                let crate::store::contract::Fresh { store, guard } = fresh;
                crate::store::contract::$area::$name(store).await;
                drop(guard);
            })*
        })*
    };
}
pub(in crate::store) use store_contract;
