//! Deserved shares, limits, order and usage of queues.

use mss_scheduler::cluster::{CPU, MEMORY};
use mss_scheduler::fairshare::FairShare;
use mss_scheduler::model::QueueSpec;

#[test]
fn guarantee_first_then_the_surplus_by_weight() {
    let mut share = FairShare::default();
    let spec = |name: &str, quota: &[(&str, i64)]| QueueSpec {
        name: name.into(),
        quota: quota.iter().map(|(n, a)| ((*n).into(), *a)).collect(),
        ..QueueSpec::default()
    };
    share.replace(&[spec("a", &[("cpu", 60)]), spec("b", &[])]).unwrap();
    share.set_capacity(CPU, 100);
    for name in ["a", "b"] {
        let leaf = share.acquire_leaf(share.find(name).unwrap(), "alice");
        share.pend(leaf, &[(CPU, 100), (MEMORY, 5)], 1);
    }
    assert_eq!(share.deserved_milli(share.find("a").unwrap(), CPU), 80_000);
    assert_eq!(share.deserved_milli(share.find("b").unwrap(), CPU), 20_000);
}
