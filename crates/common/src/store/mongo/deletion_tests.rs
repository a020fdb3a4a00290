//! What a deletion leaves in the collections: nothing of the content.

use mongodb::bson::{Document, doc};

use super::find;
use super::testing::Scratch;
use crate::store::contract::secret::{KEPT, SECRET, tell_and_delete};

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_deleted_content_is_left_in_a_collection() {
    let Some(scratch) = Scratch::new() else {
        return;
    };
    tell_and_delete(&scratch.open().await).await;
    let database = scratch.database().await;
    let mut text = String::new();
    for name in database.list_collection_names().await.unwrap() {
        let collection = database.collection(&name);
        let found = collection.find(doc! {}).await.unwrap();
        let documents = find::all(found, |stored| Ok(Document::try_from(stored).unwrap()));
        text += &format!("{:?}", documents.await.unwrap());
    }
    assert!(text.contains(KEPT) && !text.contains(SECRET), "{text}");
}
