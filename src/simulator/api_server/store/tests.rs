use super::{Change, Range, Store, StoreError};
use serde_json::json;

fn pod(name: &str, step: u64) -> serde_json::Value {
    json!({ "metadata": { "name": name }, "step": step })
}

#[test]
fn writes_are_compared_and_counted() {
    let store = Store::new(8);
    let pods = store.add_collection();
    let first = store.create(pods, "a/x", pod("x", 1)).expect("free");
    assert_eq!(store.create(pods, "a/x", pod("x", 1)).err(), Some(StoreError::Exists));
    let second = store.update(pods, "a/x", &first, pod("x", 2)).expect("current");
    assert!(second.revision > first.revision);
    assert_eq!(store.update(pods, "a/x", &first, pod("x", 3)).err(), Some(StoreError::Changed));
    let same = store.update(pods, "a/x", &second, second.value.clone()).expect("no change");
    assert_eq!(same.revision, second.revision, "writing the same is no event");
    store.delete(pods, "a/x", &second, second.value.clone()).expect("current");
    assert_eq!(store.delete(pods, "a/x", &second, pod("x", 2)).err(), Some(StoreError::Missing));
}

#[test]
fn the_past_is_listed_by_undoing_the_log() {
    let store = Store::new(64);
    let pods = store.add_collection();
    let mut worlds = Vec::new();
    for step in 0..20_u64 {
        let key = format!("ns/{}", step * 7 % 5);
        match store.get(pods, &key) {
            Some(old) if step % 3 == 0 => {
                store.delete(pods, &key, &old, old.value.clone()).map(drop).expect("current");
            }
            Some(old) => {
                store.update(pods, &key, &old, pod("x", step)).map(drop).expect("current");
            }
            None => store.create(pods, &key, pod("x", step)).map(drop).expect("free"),
        }
        let page = store.list(pods, &Range::default()).expect("now");
        let objects: Vec<_> = page.objects.iter().map(|o| o.value.clone()).collect();
        worlds.push((page.revision, objects));
    }
    for (revision, expected) in worlds {
        let range = Range { revision: Some(revision), ..Range::default() };
        let page = store.list(pods, &range).expect("in the log");
        let objects: Vec<_> = page.objects.iter().map(|o| o.value.clone()).collect();
        assert_eq!(objects, expected, "as of {revision}");
    }
    store.compact();
    let range = Range { revision: Some(2), ..Range::default() };
    let old = store.create(pods, "ns/z", pod("z", 0)).map(|_| store.list(pods, &range));
    assert!(matches!(old, Ok(Err(StoreError::Compacted { .. }))));
}

#[test]
fn pages_join_without_gaps() {
    let store = Store::new(64);
    let pods = store.add_collection();
    for index in 0..10 {
        store.create(pods, &format!("ns/{index}"), pod("x", index)).expect("free");
    }
    let first = store.list(pods, &Range { limit: 4, ..Range::default() }).expect("now");
    let (start, left) = first.more.expect("six are left");
    assert_eq!((start.as_str(), left), ("ns/4", 6));
    let range = Range { start: Some(&start), revision: Some(first.revision), ..Range::default() };
    assert_eq!(store.list(pods, &range).expect("kept").objects.len(), 6);
}

#[tokio::test]
async fn a_cursor_sees_every_event_or_is_told() {
    let store = Store::new(4);
    let pods = store.add_collection();
    let mut cursor = store.watch(pods, store.revision());
    let first = store.create(pods, "x", pod("x", 0)).expect("free");
    cursor.changed().await;
    let (batch, _) = store.take(&mut cursor).expect("in the log");
    assert_eq!(batch.iter().map(|e| e.change).collect::<Vec<_>>(), [Change::Added]);
    let mut old = first;
    for step in 1..=5 {
        old = store.update(pods, "x", &old, pod("x", step)).expect("current");
    }
    assert!(matches!(store.take(&mut cursor), Err(StoreError::Compacted { .. })));
}
