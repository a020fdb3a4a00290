//! Accounts, sessions, and the installation.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};

use super::fixture::{apply, at, check_both_ways, commit};
use crate::domain::{Change, Key, Rotation, ServerId, Session, SessionId, StreamId, User, UserId};
use crate::store::{BusLayout, IdWindow, NewUser, Store};

fn new_user(username: &str) -> NewUser {
    NewUser {
        user: User {
            id: UserId::generate(),
            username: username.to_owned(),
            display_name: "Ada".to_owned(),
            created_at: at(1),
        },
        password_hash: format!("hash of {username}"),
        key: Key::unique(),
    }
}

async fn login(store: &dyn Store, user: UserId) -> (SessionId, crate::domain::Entry) {
    let session = SessionId::generate();
    let change = Change::SessionCreated {
        session,
        device_name: "phone".to_owned(),
    };
    let entry = commit(store, StreamId::User(user), user, change).await;
    (session, entry)
}

pub(in crate::store) async fn the_installation_keeps_its_name(store: Arc<dyn Store>) {
    let meta = store.meta().await.unwrap();
    assert_eq!(meta.epoch, 1);
    assert_eq!(store.meta().await.unwrap(), meta);
}

pub(in crate::store) async fn the_first_layout_stands(store: Arc<dyn Store>) {
    let layout = |prefix: String| BusLayout {
        prefix,
        partitions: 1024,
        exchanges: 8,
    };
    let calls = (0..8).map(|n| store.agree(layout(format!("bus{n}"))));
    let recorded: Vec<BusLayout> = try_join_all(calls).await.unwrap();
    assert!(recorded.windows(2).all(|pair| pair[0] == pair[1]));
    let later = store.agree(layout("later".to_owned())).await.unwrap();
    assert_eq!(later, recorded[0]);
}

pub(in crate::store) async fn an_epoch_follows_another(store: Arc<dyn Store>) {
    let before = store.meta().await.unwrap();
    assert_eq!(store.begin_epoch().await.unwrap(), 2);
    assert_eq!(store.begin_epoch().await.unwrap(), 3);
    let after = store.meta().await.unwrap();
    assert_eq!((after.deployment, after.epoch), (before.deployment, 3));
}

pub(in crate::store) async fn a_check_passes_and_changes_nothing(store: Arc<dyn Store>) {
    let user = UserId::generate();
    for head in 0..3 {
        store.check().await.unwrap();
        assert_eq!(store.head(user.into()).await.unwrap().seq, head);
        login(&*store, user).await;
    }
}

pub(in crate::store) async fn a_username_is_given_once(store: Arc<dyn Store>) {
    let first = new_user("ada");
    assert!(store.create_user(first.clone()).await.unwrap().is_none());
    for again in [first.clone(), new_user("ada")] {
        let found = store.create_user(again).await.unwrap().unwrap();
        assert_eq!(found.user, first.user);
        assert_eq!(found.key, first.key);
        assert_eq!(found.password_hash, first.password_hash);
    }
    assert!(store.create_user(new_user("eve")).await.unwrap().is_none());
    let found = store.account("ada").await.unwrap().unwrap();
    assert_eq!(found.user, first.user);
    assert_eq!(found.password_hash, "hash of ada");
    assert_eq!(found.key, first.key);
    assert!(store.account("bob").await.unwrap().is_none());
}

pub(in crate::store) async fn two_at_once_get_one_account(store: Arc<dyn Store>) {
    let attempts = (0..16).map(|_| {
        let store = Arc::clone(&store);
        let new = new_user("ada");
        tokio::spawn(async move {
            let found = store.create_user(new.clone()).await.unwrap();
            (new.user, found.map(|account| account.user))
        })
    });
    let mut outcomes: Vec<(User, Option<User>)> = Vec::new();
    for outcome in join_all(attempts).await {
        outcomes.push(outcome.unwrap());
    }
    let winner = store.account("ada").await.unwrap().unwrap().user;
    for (mine, found) in outcomes {
        let expected = (mine != winner).then(|| winner.clone());
        assert_eq!(found, expected);
    }
}

pub(in crate::store) async fn users_are_found_by_id(store: Arc<dyn Store>) {
    let (ada, eve) = (new_user("ada"), new_user("eve"));
    for new in [&ada, &eve] {
        store.create_user(new.clone()).await.unwrap();
    }
    let ids = [eve.user.id, UserId::generate(), ada.user.id];
    let mut found = store.users(&ids).await.unwrap();
    found.sort_by_key(|user| user.username.clone());
    assert_eq!(found, [ada.user, eve.user]);
    assert_eq!(store.users(&[]).await.unwrap(), []);
}

pub(in crate::store) async fn users_are_found_by_name(store: Arc<dyn Store>) {
    let (ada, eve) = (new_user("ada"), new_user("eve"));
    for new in [&ada, &eve] {
        store.create_user(new.clone()).await.unwrap();
    }
    let names = ["eve", "nobody", "ada", "eve", "Ada", "$ne"].map(str::to_owned);
    let mut found = store.users_named(&names).await.unwrap();
    found.sort_by_key(|user| user.username.clone());
    assert_eq!(found, [ada.user, eve.user]);
    assert_eq!(store.users_named(&[]).await.unwrap(), []);
}

pub(in crate::store) async fn a_late_rename_changes_nothing(store: Arc<dyn Store>) {
    let ada = new_user("ada");
    store.create_user(ada.clone()).await.unwrap();
    let stream = StreamId::User(ada.user.id);
    let rename = |name: &str| Change::UserUpdated {
        display_name: name.to_owned(),
    };
    let first = commit(&*store, stream, ada.user.id, rename("Countess")).await;
    let second = commit(&*store, stream, ada.user.id, rename("Lovelace")).await;
    for late in [&first, &second] {
        apply(&*store, late).await;
        let found = store.users(&[ada.user.id]).await.unwrap();
        assert_eq!(found[0].display_name, "Lovelace");
    }
}

pub(in crate::store) async fn sessions_are_listed_until_revoked(store: Arc<dyn Store>) {
    let (user, other) = (UserId::generate(), UserId::generate());
    login(&*store, other).await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(login(&*store, user).await.0);
    }
    ids.sort_unstable();
    let listed = async |window, limit| -> Vec<SessionId> {
        let found = store.sessions(user, window, limit).await.unwrap();
        found.into_iter().map(|session| session.id).collect()
    };
    check_both_ways(&ids, SessionId::generate, &listed).await;
    let change = Change::SessionRevoked { session: ids[1] };
    let revoked = commit(&*store, StreamId::User(user), user, change).await;
    apply(&*store, &revoked).await;
    assert_eq!(listed(IdWindow::First, 2).await, [ids[0], ids[2]]);
    assert_eq!(listed(IdWindow::Before(ids[3]), 2).await, [ids[0], ids[2]]);
    let session = store.session(ids[1]).await.unwrap().unwrap();
    assert!(session.revoked);
    assert_eq!(store.session(SessionId::generate()).await.unwrap(), None);
}

pub(in crate::store) async fn a_session_created_again_stays_as_it_is(store: Arc<dyn Store>) {
    let user = UserId::generate();
    let (id, entry) = login(&*store, user).await;
    let expected = Session {
        id,
        user,
        device_name: "phone".to_owned(),
        created_at: at(1),
        last_used_at: at(1),
        generation: 1,
        rotation: None,
        revoked: false,
    };
    let found = store.session(id).await.unwrap();
    assert_eq!(found, Some(expected));
    assert!(store.rotate_session(id, 1, at(9), None).await.unwrap());
    let change = Change::SessionRevoked { session: id };
    commit(&*store, StreamId::User(user), user, change).await;
    apply(&*store, &entry).await;
    let found = store.session(id).await.unwrap().unwrap();
    assert_eq!((found.generation, found.revoked), (2, true));
}

pub(in crate::store) async fn a_refresh_token_is_exchanged_once(store: Arc<dyn Store>) {
    let user = UserId::generate();
    let (id, _) = login(&*store, user).await;
    let key = Key::unique();
    assert!(store.rotate_session(id, 1, at(8), Some(key)).await.unwrap());
    let session = store.session(id).await.unwrap().unwrap();
    assert_eq!(session.generation, 2);
    assert_eq!(session.last_used_at, at(8));
    let rotation = Rotation {
        at: at(8),
        key: Some(key),
    };
    assert_eq!(session.rotation, Some(rotation));
    for generation in [0, 1, 3, u32::MAX] {
        assert!(
            !store
                .rotate_session(id, generation, at(9), None)
                .await
                .unwrap()
        );
    }
    assert_eq!(store.session(id).await.unwrap(), Some(session));
    assert!(store.rotate_session(id, 2, at(9), None).await.unwrap());
    let session = store.session(id).await.unwrap().unwrap();
    let rotation = Rotation {
        at: at(9),
        key: None,
    };
    assert_eq!(session.rotation, Some(rotation));
    let change = Change::SessionRevoked { session: id };
    commit(&*store, StreamId::User(user), user, change).await;
    assert!(!store.rotate_session(id, 3, at(9), None).await.unwrap());
    let unknown = SessionId::generate();
    assert!(!store.rotate_session(unknown, 1, at(9), None).await.unwrap());
}

pub(in crate::store) async fn one_of_many_exchanges_wins(store: Arc<dyn Store>) {
    let (id, _) = login(&*store, UserId::generate()).await;
    let attempts = (0..16).map(|_| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.rotate_session(id, 1, at(5), None).await.unwrap() })
    });
    let won = join_all(attempts).await;
    assert_eq!(
        won.into_iter().filter(|won| *won.as_ref().unwrap()).count(),
        1
    );
    let session = store.session(id).await.unwrap().unwrap();
    assert_eq!(session.generation, 2);
}

const LONG: Duration = Duration::from_secs(600);

pub(in crate::store) async fn a_lease_has_one_holder(store: Arc<dyn Store>) {
    let (one, other) = (ServerId::generate(), ServerId::generate());
    for (name, holder, lifetime, expected) in [
        ("work", one, LONG, true),
        ("work", other, LONG, false),
        ("more work", other, LONG, true),
        ("work", one, LONG, true),
        ("work", other, Duration::ZERO, false),
        ("work", other, LONG, false),
        // Given back.
        ("work", one, Duration::ZERO, true),
        ("work", other, LONG, true),
        ("work", one, LONG, false),
    ] {
        let granted = store.lease(name, holder, lifetime).await.unwrap();
        assert_eq!(granted, expected, "{name} {holder} {lifetime:?}");
    }
}

pub(in crate::store) async fn one_of_many_gets_a_lease(store: Arc<dyn Store>) {
    for round in ["new", "given back"] {
        let holders: Vec<ServerId> = (0..16).map(|_| ServerId::generate()).collect();
        let asking = holders.iter().map(|holder| {
            let (store, holder) = (Arc::clone(&store), *holder);
            tokio::spawn(async move { store.lease("work", holder, LONG).await.unwrap() })
        });
        let granted = try_join_all(asking).await.unwrap();
        let mut holding = holders.iter().zip(granted).filter(|(_, granted)| *granted);
        let (holder, _) = holding.next().expect(round);
        assert!(holding.next().is_none(), "{round}");
        let given_back = store.lease("work", *holder, Duration::ZERO).await;
        assert!(given_back.unwrap());
    }
}

pub(in crate::store) async fn a_lease_ends(store: Arc<dyn Store>) {
    let (one, other) = (ServerId::generate(), ServerId::generate());
    let lifetime = Duration::from_millis(1500);
    let since = tokio::time::Instant::now();
    assert!(store.lease("work", one, lifetime).await.unwrap());
    while !store.lease("work", other, LONG).await.unwrap() {
        assert!(since.elapsed() < Duration::from_secs(30));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(since.elapsed() > Duration::from_secs(1));
    assert!(!store.lease("work", one, lifetime).await.unwrap());
}
