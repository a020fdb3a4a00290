//! Redis forgets, dies and stands still while somebody holds an edit lease: no fence is lost.

use anyhow::{Result, ensure};
use reqwest::Method;
use serde_json::json;
use tidings_tests::client::{Answer, Client, answer, number};
use tidings_tests::cluster::Cluster;
use tidings_tests::stack::Stack;
use tidings_tests::started;
use tidings_tests::wait::{self, SOON};

/// Asks until Redis is there again for the processes.
async fn take(who: &Client, lease: &str) -> Result<u64> {
    let taken = wait::until("a lease", SOON, async || {
        let taken = answer(who.request(Method::PUT, lease)).await?;
        Ok((taken.status != 503).then_some(taken))
    })
    .await?;
    number(&taken.ok()?, "token")
}

async fn rename(who: &Client, group: &str, name: &str, token: Option<u64>) -> Result<Answer> {
    let path = format!("/v1/groups/{group}");
    let mut request = who
        .request(Method::PATCH, &path)
        .json(&json!({"name": name}));
    if let Some(token) = token {
        request = request.header("edit-lease", token);
    }
    answer(request).await
}

#[tokio::test]
async fn a_lost_redis_loses_no_fence() -> Result<()> {
    let mut stack = started!(Stack::start().await);
    let mut cluster = started!(Cluster::on(&stack, &[]).await);
    cluster.launch().await?;
    let (ada, bob) = (cluster.user("ada").await?, cluster.user("bob").await?);
    let group = ada.group("Engine room", &[&bob]).await?.id;
    let admin = format!("/v1/groups/{group}/members/{}", bob.user);
    ada.put(&admin, &json!({"role": "admin"})).await?.ok()?;
    let lease = format!("/v1/groups/{group}/edit-lease");

    // Forgotten: somebody else gets it, and the first holder's token is old.
    let first = take(&ada, &lease).await?;
    stack.redis.flush().await?;
    rename(&ada, &group, "nobody came", Some(first))
        .await?
        .ok()?;
    let second = take(&bob, &lease).await?;
    let late = rename(&ada, &group, "late", Some(first)).await?;
    late.problem(412, "precondition_failed")?;
    rename(&bob, &group, "his", Some(second)).await?.ok()?;

    // Dead: none is given; whether one is held is not known; the holder goes on.
    stack.redis.kill()?;
    for who in [&ada, &bob] {
        let taken = answer(who.request(Method::PUT, &lease)).await?;
        taken.problem(503, "unavailable")?;
        rename(who, &group, "unsafe", None)
            .await?
            .problem(503, "unavailable")?;
    }
    rename(&bob, &group, "his still", Some(second))
        .await?
        .ok()?;
    // Where nobody has taken one, nobody holds one.
    let other = ada.group("Bridge", &[]).await?.id;
    rename(&ada, &other, "Deck", None).await?.ok()?;

    // Back and empty: a change without a lease ends the one that nobody can renew.
    stack.redis.start().await?;
    let renamed = wait::until("Redis answers the processes", SOON, async || {
        let renamed = rename(&ada, &group, "hers", None).await?;
        Ok((renamed.status != 503).then_some(renamed))
    })
    .await?;
    renamed.ok()?;
    let late = rename(&bob, &group, "late", Some(second)).await?;
    late.problem(412, "precondition_failed")?;
    let third = take(&bob, &lease).await?;
    ensure!(third > second, "{third} after {second}");

    // Standing still, it is as if it were away, and nothing waits for it for long.
    stack.redis.pause()?;
    let taken = answer(ada.request(Method::PUT, &lease)).await?;
    taken.problem(503, "unavailable")?;
    rename(&bob, &group, "his again", Some(third)).await?.ok()?;
    ensure!(bob.delete(&lease).await?.status == 204);
    rename(&ada, &group, "free", None).await?.ok()?;
    stack.redis.resume()?;
    // It may not have heard that the lease was given back; the owner need not wait.
    take(&ada, &format!("{lease}?steal=true")).await?;
    Ok(())
}
