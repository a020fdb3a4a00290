use serde_json::{Value, json};

use crate::harness::{Person, Server};

fn whom(message: &Value) -> (Vec<&str>, bool) {
    let users = message["mentions"].as_array().unwrap().iter();
    let users = users.map(|user| user.as_str().unwrap()).collect();
    (users, message["mentions_everyone"].as_bool().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_content_mentions_the_members_whom_it_names() {
    let server = Server::start().await;
    let ada = server.person("ada").await;
    let bob = server.person("bob").await;
    let dots = server.person("b.o.b.").await;
    server.person("eve").await;
    let (group, channel) = ada.group(&[&bob, &dots]).await;
    let messages = format!("/v1/channels/{channel}/messages");
    for (content, expected) in [
        ("Hi @Bob, and @ada", vec![&bob, &ada]),
        ("@bob @bob @BOB", vec![&bob]),
        ("Ask @bob.", vec![&bob]),
        ("Ask @b.o.b.", vec![&dots]),
        ("bob@bob.example, @eve, @nobody, @b", vec![]),
    ] {
        let sent = ada.say(&channel, content).await;
        let expected: Vec<&str> = expected.iter().map(|one| one.id.as_str()).collect();
        assert_eq!(whom(&sent), (expected, false), "{content}");
        let path = format!("{messages}/{}", sent["seq"]);
        assert_eq!(bob.get(&path).await, sent);
    }

    // An edit mentions anew, a deletion nobody.
    let path = format!("{messages}/1");
    let edit = json!({"content": "Hi @b.o.b. @everyone"});
    let edited = ada.send("PATCH", &path, edit, 200).await;
    assert_eq!(whom(&edited), (vec![dots.id.as_str()], true));
    ada.call("DELETE", &path, 204).await;
    assert_eq!(whom(&ada.get(&path).await), (vec![], false));

    // Who is no member any more is not mentioned; what was said before stays.
    let member = format!("/v1/groups/{group}/members/{}", bob.id);
    ada.call("DELETE", &member, 204).await;
    let sent = ada.say(&channel, "Where is @bob?").await;
    assert_eq!(whom(&sent), (vec![], false));
    let before = ada.get(&format!("{messages}/2")).await;
    assert_eq!(whom(&before), (vec![bob.id.as_str()], false));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn admins_and_the_owner_mention_everyone() {
    let server = Server::start().await;
    let ada = server.person("ada").await;
    let bob = server.person("bob").await;
    let namesake = server.person("everyone").await;
    let (group, channel) = ada.group(&[&bob, &namesake]).await;
    let says = async |person: &Person| {
        let sent = person.say(&channel, "@everyone: lunch").await;
        assert_eq!(whom(&sent).0, Vec::<&str>::new());
        whom(&sent).1
    };
    let role = format!("/v1/groups/{group}/members/{}", bob.id);
    let becomes = async |role_name: &str| {
        let body = json!({"role": role_name});
        ada.send("PATCH", &role, body, 200).await;
    };
    assert!(says(&ada).await);
    assert!(!says(&bob).await, "for a member it is plain text");
    let path = format!("/v1/channels/{channel}/messages/2");
    let edit = json!({"content": "@everyone!"});
    let edited = bob.send("PATCH", &path, edit.clone(), 200).await;
    assert_eq!(whom(&edited), (vec![], false));
    becomes("admin").await;
    assert!(says(&bob).await);
    assert!(whom(&bob.send("PATCH", &path, edit.clone(), 200).await).1);
    becomes("member").await;
    assert!(!says(&bob).await);
    assert!(!whom(&bob.send("PATCH", &path, edit, 200).await).1);

    let direct = format!("/v1/direct/{}", bob.id);
    let direct = ada.send("PUT", &direct, json!({}), 201).await;
    let channel = direct["channels"][0]["id"].as_str().unwrap();
    let sent = ada.say(channel, "@everyone and @bob").await;
    assert_eq!(whom(&sent), (vec![bob.id.as_str()], false));
    server.stop().await;
}
