use std::collections::BTreeMap;

use super::*;
use crate::domain::{GroupId, Size};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/permissions.md");

/// Set this variable to write the table instead of comparing it.
const UPDATE: &str = "TIDINGS_TEST_UPDATE_PERMISSIONS";
const BEGIN: &str = "<!-- the table -->\n";
const END: &str = "<!-- end of the table -->\n";

#[test]
fn the_rows_stand_in_the_order_of_the_actions() {
    for (index, row) in PERMISSIONS.iter().enumerate() {
        assert_eq!(row.action as usize, index, "{:?}", row.action);
        assert_eq!(row.action.permission().name, row.name);
    }
}

#[test]
fn the_document_shows_the_table() {
    let text = std::fs::read_to_string(DOCUMENT).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (shown, after) = rest.split_once(END).unwrap();
    let table = table();
    #[expect(clippy::disallowed_methods, reason = "not a setting of the program")]
    if std::env::var(UPDATE).is_ok() {
        std::fs::write(DOCUMENT, [before, BEGIN, &table, END, after].concat()).unwrap();
        return;
    }
    assert!(
        shown == table,
        "docs/permissions.md differs from the code, which says:\n{table}\nIf the change is \
         meant, run this test with {UPDATE}=1 and commit the file"
    );
}

fn table() -> String {
    let columns: Vec<&str> = Standing::ALL.iter().map(|one| one.as_str()).collect();
    let columns = columns.join(" | ");
    let mut table = format!(
        "| action | request | {columns} | member of a direct conversation | stranger to it |\n"
    );
    table += &"|---".repeat(Standing::ALL.len() + 4);
    table += "|\n";
    for row in PERMISSIONS {
        let group = row.group.iter().chain(&row.direct);
        let verdicts: Vec<&str> = group.map(|verdict| verdict.as_str()).collect();
        let verdicts = verdicts.join(" | ");
        table += &format!("| {} | {} | {verdicts} |\n", row.name, row.request);
    }
    table
}

fn member(role: Role) -> Member {
    Member {
        role,
        joined: 1,
        joined_at: Timestamp::default(),
        muted_until: None,
    }
}

fn group(kind: GroupKind, members: &[(UserId, Role)]) -> Group {
    let members = members.iter().map(|(user, role)| (*user, member(*role)));
    Group {
        id: GroupId::generate(),
        kind,
        name: None,
        created_at: Timestamp::default(),
        version: 1,
        applied: 1,
        deleted: false,
        lease: None,
        size: Size::default(),
        members: members.collect(),
        channels: BTreeMap::new(),
    }
}

fn told(result: Result<&Member, Refusal>) -> Verdict {
    match result {
        Ok(_) => Verdict::Yes,
        Err(Refusal::NotFound) => Verdict::NotFound,
        Err(Refusal::Conflict(_)) => Verdict::Conflict,
        Err(Refusal::TooSoon { .. }) => Verdict::Limited,
        Err(Refusal::Unchanged) => Verdict::Ignored,
        Err(_) => Verdict::Forbidden,
    }
}

#[test]
fn a_group_goes_by_the_table() {
    let [owner, admin, plain, stranger] = std::array::from_fn(|_| UserId::generate());
    let roles = [
        (owner, Role::Owner),
        (admin, Role::Admin),
        (plain, Role::Member),
    ];
    let usual = group(GroupKind::Group, &roles);
    let direct = group(GroupKind::Direct, &[(plain, Role::Member)]);
    // Who has an invite need not be a member: nothing of it goes by membership.
    let by_invite = [Action::PreviewInvite, Action::Join];
    for row in PERMISSIONS
        .iter()
        .filter(|row| !by_invite.contains(&row.action))
    {
        for (who, standing) in [
            (owner, Standing::Owner),
            (admin, Standing::Admin),
            (plain, Standing::Member),
            (stranger, Standing::Stranger),
        ] {
            let expected = row.verdict(GroupKind::Group, standing);
            let found = told(usual.permit(who, row.action));
            assert_eq!(Some(found), expected, "{:?} {standing:?}", row.action);
            if let Some(expected) = row.verdict(GroupKind::Direct, standing) {
                let found = told(direct.permit(who, row.action));
                assert_eq!(found, expected, "direct: {:?} {standing:?}", row.action);
            }
        }
    }
    let mut deleted = usual.clone();
    deleted.deleted = true;
    assert_eq!(told(deleted.permit(owner, Action::Read)), Verdict::NotFound);
}

#[test]
fn whom_an_action_concerns_must_have_a_lower_role() {
    let [owner, admin, other, plain] = std::array::from_fn(|_| UserId::generate());
    let roles = [
        (owner, Role::Owner),
        (admin, Role::Admin),
        (other, Role::Admin),
        (plain, Role::Member),
    ];
    let group = group(GroupKind::Group, &roles);
    let remove = |who, whom| told(group.permit_on(who, Action::RemoveMember, whom));
    for (who, whom, expected) in [
        (owner, admin, Verdict::Yes),
        (owner, plain, Verdict::Yes),
        (admin, plain, Verdict::Yes),
        (admin, other, Verdict::Forbidden),
        (admin, owner, Verdict::Forbidden),
        (plain, admin, Verdict::Forbidden),
        (owner, UserId::generate(), Verdict::NotFound),
        (UserId::generate(), plain, Verdict::NotFound),
    ] {
        assert_eq!(remove(who, whom), expected);
    }
}

#[test]
fn the_muted_may_not_write_until_their_time_is_over() {
    let [owner, admin, plain] = std::array::from_fn(|_| UserId::generate());
    let roles = [
        (owner, Role::Owner),
        (admin, Role::Admin),
        (plain, Role::Member),
    ];
    let mut group = group(GroupKind::Group, &roles);
    let until = Timestamp::from_millis(1_000);
    for who in [admin, plain] {
        group.members.get_mut(&who).unwrap().muted_until = Some(until);
    }
    for row in PERMISSIONS {
        for (who, standing) in [(admin, Standing::Admin), (plain, Standing::Member)] {
            let without = row.verdict(GroupKind::Group, standing).unwrap();
            let muted = row.verdict(GroupKind::Group, Standing::Muted).unwrap();
            let expected = if row.is_silenced() { muted } else { without };
            let asked = |at| told(group.permit_at(who, row.action, Timestamp::from_millis(at)));
            assert_eq!(asked(999), expected, "{:?} {standing:?}", row.action);
            assert_eq!(asked(1_000), without, "{:?} {standing:?}", row.action);
        }
    }
    let refused = group.permit_at(plain, Action::SendMessage, Timestamp::default());
    assert_eq!(refused.unwrap_err(), Refusal::Muted { until });
}
