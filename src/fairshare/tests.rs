use super::*;
use crate::cluster::{CPU, Cluster, MEMORY, NodeApplied, PODS};
use crate::model::{Node, ResourceList, Timestamp};
use std::cmp::Ordering;

fn cpu(amount: i64) -> ResourceList {
    vec![("cpu".into(), amount)]
}

fn queue(name: &str) -> QueueSpec {
    QueueSpec { name: name.into(), ..QueueSpec::default() }
}

fn below(name: &str, parent: &str) -> QueueSpec {
    QueueSpec { parent: Some(parent.into()), ..queue(name) }
}

fn guaranteed(name: &str, parent: Option<&str>, amount: i64) -> QueueSpec {
    QueueSpec { parent: parent.map(Into::into), quota: cpu(amount), ..queue(name) }
}

fn share(specs: &[QueueSpec]) -> FairShare {
    let mut share = FairShare::default();
    share.replace(specs).unwrap();
    share.set_capacity(CPU, 100);
    share
}

/// `queue: problem` of each fault.
fn faults(specs: &[QueueSpec]) -> Vec<String> {
    let mut share = share(&[queue("old")]);
    let leaf = share.acquire_leaf(share.find("old").unwrap(), "alice");
    share.charge(leaf, &[(CPU, 7)], 1);
    let faults = share.replace(specs).unwrap_err();
    // the old tree is in force as it was
    let old = share.find("old").unwrap();
    assert_eq!(share.allocated(old, CPU), 7);
    assert_eq!(share.name(leaf), "old/alice");
    faults.iter().map(ToString::to_string).collect()
}

#[test]
fn a_faulty_tree_is_refused_with_a_reason_for_each_queue() {
    let one = |spec: QueueSpec| faults(&[spec]).join("\n");
    assert_eq!(
        faults(&[below("a", "b"), below("b", "c"), below("c", "b"), below("d", "nowhere")]),
        [
            "queue b: it is an ancestor of itself: give it another parent",
            "queue c: it is an ancestor of itself: give it another parent",
            "queue d: its parent nowhere is not declared: declare it, or name no parent",
        ]
    );
    assert!(one(below("a", "a")).contains("ancestor of itself"));
    assert!(faults(&[queue("a"), queue("a")])[0].contains("more than once"));
    assert!(one(queue("root")).starts_with("queue root: root names the whole cluster"));
    assert!(one(queue("")).contains("not empty"));
    assert!(one(queue("a/b")).contains("slash"));
    assert!(one(QueueSpec { weight: 0, ..queue("a") }).contains("weight must be 1 to 1000000"));
    assert!(one(QueueSpec { weight: 1_000_001, ..queue("a") }).contains("weight must be"));
    let surplus = QueueSpec { over_quota_weight: Some(0), ..queue("a") };
    assert!(one(surplus).contains("over_quota_weight must be"));
    let limited = QueueSpec { limit: cpu(9), ..guaranteed("a", None, 10) };
    assert!(one(limited).contains("limit 9 of cpu is below its quota 10"));
    assert!(one(guaranteed("a", None, -1)).contains("quota of cpu is -1"));
    let pods = QueueSpec { limit: vec![("pods".into(), 3)], ..queue("a") };
    assert!(one(pods).contains("limit names pods, which queues do not share: remove it"));
}

#[test]
fn edited_weights_are_taken_as_a_new_tree_would_take_them() {
    let weighed = |a: u32, b: u32, c: u32, surplus: Option<u32>| {
        let a = QueueSpec { weight: a, over_quota_weight: surplus, ..guaranteed("a", None, 20) };
        [a, QueueSpec { weight: b, ..queue("b") }, QueueSpec { weight: c, ..below("c", "b") }]
    };
    let ask = |share: &mut FairShare| {
        for name in ["a", "c"] {
            let leaf = share.acquire_leaf(share.find(name).unwrap(), "ann");
            share.pend(leaf, &[(CPU, 90)], 1);
        }
        share.acquire_leaf(share.find("b").unwrap(), "ben")
    };
    let stand = |share: &mut FairShare| -> Vec<i128> {
        let queues: Vec<QueueIndex> = share.shape().collect();
        let below = |queue: &QueueIndex| i128::from(share.tree.weight_below(*queue));
        let below: Vec<i128> = queues.iter().take(share.tree.declared()).map(below).collect();
        let deserved = queues.iter().map(|queue| share.deserved_milli(*queue, CPU));
        deserved.collect::<Vec<i128>>().into_iter().chain(below).collect()
    };
    let mut edited = share(&weighed(1, 1, 1, None));
    let ben = ask(&mut edited);
    for (a, b, c, surplus) in
        [(3, 1, 1, None), (3, 5, 2, None), (3, 5, 9, Some(1)), (1, 1, 1, None)]
    {
        assert!(edited.reweigh(&weighed(a, b, c, surplus)));
        let mut anew = share(&weighed(a, b, c, surplus));
        ask(&mut anew);
        assert_eq!(stand(&mut edited), stand(&mut anew), "{a} {b} {c} {surplus:?}");
    }
    // anything else needs a new tree, and what was charged stays until then
    edited.charge(ben, &[(CPU, 7)], 1);
    let [a, b, c] = weighed(2, 1, 1, None);
    let other = |spec: QueueSpec| [spec, b.clone(), c.clone()];
    assert!(!edited.reweigh(&[a.clone(), b.clone()]));
    assert!(!edited.reweigh(&[a.clone(), a.clone(), b.clone(), c.clone()]));
    assert!(!edited.reweigh(&other(QueueSpec { weight: 0, ..a.clone() })));
    assert!(!edited.reweigh(&other(QueueSpec { over_quota_weight: Some(0), ..a.clone() })));
    assert!(!edited.reweigh(&other(QueueSpec { priority: 1, ..a.clone() })));
    assert!(!edited.reweigh(&other(QueueSpec { quota: cpu(21), ..a.clone() })));
    assert!(!edited.reweigh(&[a.clone(), b.clone(), c.clone(), queue("d")]));
    let default = QueueSpec { weight: 2, ..QueueSpec::default() };
    assert!(edited.reweigh(&[a.clone(), b.clone(), c.clone(), default]));
    assert!(!edited.reweigh(&[a, b, c]), "the default queue has its own weight back");
    assert_eq!(edited.allocated(ben, CPU), 7);
}

#[test]
fn guarantees_of_children_fit_into_their_parent() {
    let children = [guaranteed("b", Some("a"), 6), guaranteed("c", Some("a"), 5)];
    let tree = |parent: QueueSpec| [vec![parent], children.to_vec()].concat();
    assert_eq!(
        faults(&tree(QueueSpec { limit: cpu(10), ..guaranteed("a", None, 10) })),
        [
            "queue a: quotas of cpu of its children add up to 11, above its own 10 and its limit 10: \
          lower them or raise its own"
        ]
    );
    assert!(faults(&tree(queue("a")))[0].contains("above its own 0:"));
    share(&tree(guaranteed("a", None, 11)));
    // below the root they may exceed the capacity, but not what can be counted
    let many: Vec<QueueSpec> =
        (0..257).map(|i| guaranteed(&format!("q{i}"), None, 1 << 52)).collect();
    assert!(faults(&many)[0].starts_with("queue root: quotas of cpu below the root add up to"));
    share(&many[..256]);
}

#[test]
fn depth_and_number_are_bounded() {
    let chain = |length: usize| -> Vec<QueueSpec> {
        let parent = |i: usize| (i > 1).then(|| format!("q{}", i - 1).into());
        (1..=length).map(|i| QueueSpec { parent: parent(i), ..queue(&format!("q{i}")) }).collect()
    };
    share(&chain(15));
    assert_eq!(
        faults(&chain(16)),
        ["queue q16: it is 16 levels below the root, 15 at most: hang it higher"]
    );
    let many: Vec<QueueSpec> = (0..10_001).map(|i| queue(&format!("q{i}"))).collect();
    assert!(faults(&many)[0].contains("10001 queues are declared, 10000 are possible"));
    share(&many[..10_000]);
}

#[test]
fn a_namespace_uses_the_queues_that_list_it_or_the_default_one() {
    let listing = |name: &str, namespaces: &[&str]| {
        let namespaces = namespaces.iter().map(|n| (*n).into()).collect();
        QueueSpec { namespaces, ..queue(name) }
    };
    let share = share(&[listing("z", &["x", "y"]), listing("b", &["x"]), listing("c", &["w"])]);
    let name = |namespace, wanted| share.queue_for(namespace, wanted).map(|q| share.name(q));
    assert_eq!(name("x", None).unwrap(), "b");
    assert_eq!(name("x", Some("z")).unwrap(), "z");
    assert_eq!(name("elsewhere", None).unwrap(), "default");
    assert_eq!(name("elsewhere", Some("default")).unwrap(), "default");
    assert_eq!(
        name("x", Some("c")).unwrap_err(),
        "queue c does not list namespace x; the namespace may use: b, z"
    );
    assert_eq!(
        name("elsewhere", Some("b")).unwrap_err(),
        "queue b does not list namespace elsewhere; the namespace may use: default"
    );
    assert!(name("x", Some("default")).is_err());
    assert_eq!(
        name("y", Some("none")).unwrap_err(),
        "there is no queue none; the namespace may use: z"
    );
    assert!(name("y", Some("root")).is_err());
}

#[test]
fn a_tree_has_names_paths_and_ancestors() {
    let mut share = share(&[below("nlp", "research"), queue("research"), below("cv", "research")]);
    let find = |share: &FairShare, name: &str| share.find(name).unwrap();
    let nlp = find(&share, "nlp");
    let alice = share.acquire_leaf(nlp, "alice");
    let bob = share.acquire_leaf(find(&share, "cv"), "bob");
    let eve = share.acquire_leaf(find(&share, "default"), "eve");
    let names = |queues: Vec<QueueIndex>| queues.into_iter().map(|q| share.name(q));
    let path: Vec<String> = names(share.path(alice).collect()).collect();
    assert_eq!(path, ["nlp/alice", "nlp", "research", "root"]);
    let shape: Vec<String> = names(share.shape().collect()).collect();
    let declared = ["root", "default", "research", "cv", "nlp"];
    assert_eq!(shape, [&declared[..], &["nlp/alice", "cv/bob", "default/eve"]].concat());
    assert_eq!(share.name(share.common_ancestor(alice, bob)), "research");
    assert_eq!(share.name(share.common_ancestor(alice, nlp)), "nlp");
    assert_eq!(share.common_ancestor(alice, eve), QueueIndex::ROOT);
    assert_eq!(share.common_ancestor(bob, bob), bob);
    assert_eq!(&*share.spec(alice).name, "nlp");
    assert_eq!(share.parent(QueueIndex::ROOT), None);
    assert_eq!(share.find("root"), None);
}

#[test]
fn a_leaf_lives_as_long_as_it_is_used_or_charged() {
    let mut share = share(&[queue("a")]);
    let a = share.find("a").unwrap();
    let leaf = share.acquire_leaf(a, "alice");
    assert_eq!(share.acquire_leaf(a, "alice"), leaf);
    share.charge(leaf, &[(CPU, 5), (PODS, 1)], 1);
    share.pend(leaf, &[(CPU, 3)], 1);
    share.release_leaf(leaf);
    share.release_leaf(leaf);
    assert_eq!((share.allocated(leaf, CPU), share.demand(a, CPU)), (5, 8));
    assert_eq!(share.deserved_milli(leaf, CPU), 8_000);
    share.charge(leaf, &[(CPU, 5), (PODS, 1)], -1);
    assert_eq!(share.shape().count(), 4);
    share.pend(leaf, &[(CPU, 3)], -1);
    assert_eq!(share.shape().count(), 3);
    assert_eq!(share.deserved_milli(a, CPU), 0);
    // the slot is used again, and has nothing of its former life
    let bob = share.acquire_leaf(share.find("default").unwrap(), "bob");
    assert_eq!(bob, leaf);
    assert_eq!((share.demand(bob, CPU), share.deserved_milli(bob, CPU)), (0, 0));
    // gaps among the leaves of a queue close
    let leaves: Vec<QueueIndex> =
        (0..4).map(|i| share.acquire_leaf(a, &format!("user{i}"))).collect();
    share.release_leaf(leaves[0]);
    share.release_leaf(leaves[3]);
    share.release_leaf(leaves[1]);
    share.pend(leaves[2], &[(CPU, 1)], 1);
    assert_eq!(share.deserved_milli(leaves[2], CPU), 1_000);
    assert_eq!(share.acquire_leaf(a, "user2"), leaves[2]);
}

#[test]
fn a_limit_holds_at_every_queue_of_the_path() {
    let limited = QueueSpec { limit: cpu(10), ..queue("a") };
    let borrowing = QueueSpec { quota: cpu(0), borrow_limit: cpu(12), ..below("b", "a") };
    let mut share = share(&[limited, borrowing, below("c", "a")]);
    let find = |share: &FairShare, name: &str| share.find(name).unwrap();
    let (a, b, c) = (find(&share, "a"), find(&share, "b"), find(&share, "c"));
    let leaf = share.acquire_leaf(b, "alice");
    let other = share.acquire_leaf(c, "bob");
    assert_eq!(share.limited_by(leaf, &[(CPU, 10), (MEMORY, 1 << 40)]), None);
    assert_eq!(share.limited_by(leaf, &[(CPU, 11)]), Some(a));
    // both are exceeded: the topmost is told
    assert_eq!(share.limited_by(leaf, &[(CPU, 13)]), Some(a));
    share.charge(other, &[(CPU, 10)], 1);
    assert_eq!(share.limited_by(leaf, &[(CPU, 1)]), Some(a));
    assert_eq!(share.limited_by(leaf, &[(CPU, 0), (PODS, 1)]), None);
    assert_eq!(share.limited_by(b, &[(MEMORY, 1)]), None);
    // guarantee and borrow limit
    let borrowing = QueueSpec { borrow_limit: cpu(2), ..guaranteed("b", None, 3) };
    share.replace(&[borrowing]).unwrap();
    let b = find(&share, "b");
    let leaf = share.acquire_leaf(b, "alice");
    assert_eq!(share.limited_by(leaf, &[(CPU, 5)]), None);
    assert_eq!(share.limited_by(leaf, &[(CPU, 6)]), Some(b));
}

#[test]
fn unaccounted_resources_are_left_out() {
    for name in ["pods", "ephemeral-storage", "hugepages-2Mi", "attachable-volumes-aws-ebs"] {
        assert!(!accounts(name), "{name}");
    }
    for name in ["cpu", "memory", "nvidia.com/gpu", "rdma/hca"] {
        assert!(accounts(name), "{name}");
    }
    let mut share = share(&[]);
    let leaf = share.acquire_leaf(share.find("default").unwrap(), "alice");
    share.charge(leaf, &[(PODS, 1)], 1);
    assert_eq!(share.allocated(leaf, PODS), 0);
    assert!(share.is_entitled(leaf, &[(PODS, 1)]));
    assert!(!share.is_above(leaf, &[PODS], &[]));
}

#[test]
fn forgotten_charges_leave_the_leaves() {
    let mut share = share(&[queue("a")]);
    let a = share.find("a").unwrap();
    let alice = share.acquire_leaf(a, "alice");
    let bob = share.acquire_leaf(a, "bob");
    share.charge(alice, &[(CPU, 5)], 1);
    share.pend(bob, &[(CPU, 5)], 1);
    share.release_leaf(bob);
    assert_eq!(share.deserved_milli(a, CPU), 10_000);
    share.forget_charges();
    assert_eq!(share.shape().map(|q| share.name(q)).last().unwrap(), "a/alice");
    assert_eq!((share.demand(a, CPU), share.deserved_milli(a, CPU)), (0, 0));
    share.charge(alice, &[(CPU, 6)], 1);
    assert_eq!((share.allocated(a, CPU), share.deserved_milli(alice, CPU)), (6, 6_000));
}

#[test]
fn entitled_is_up_to_the_share_and_above_is_beyond_it() {
    let mut share = share(&[guaranteed("a", None, 60), queue("b")]);
    let (a, b) = (share.find("a").unwrap(), share.find("b").unwrap());
    let (alice, bob) = (share.acquire_leaf(a, "alice"), share.acquire_leaf(b, "bob"));
    share.charge(bob, &[(CPU, 50)], 1);
    share.pend(alice, &[(CPU, 100)], 1);
    // 80 and 20
    assert!(share.is_entitled(a, &[(CPU, 80), (PODS, 1)]));
    assert!(!share.is_entitled(a, &[(CPU, 81)]));
    assert!(!share.is_entitled(a, &[(CPU, 80), (MEMORY, 1)]));
    assert!(share.is_entitled(a, &[(CPU, 1), (MEMORY, 0)]));
    assert!(share.is_above(b, &[MEMORY, CPU], &[]));
    assert!(!share.is_above(b, &[MEMORY], &[]));
    assert!(share.is_above(b, &[CPU], &[(CPU, 29), (MEMORY, 7)]));
    assert!(!share.is_above(b, &[CPU], &[(CPU, 30)]));
    assert!(!share.is_above(b, &[CPU], &[(CPU, 10), (CPU, 20)]));
    // each queue answers for itself: the leaf of a user too
    let carol = share.acquire_leaf(a, "carol");
    share.pend(carol, &[(CPU, 100)], 1);
    assert!(share.is_entitled(alice, &[(CPU, 40)]));
    assert!(!share.is_entitled(alice, &[(CPU, 41)]));
    // what was true of the old demand is not of the new one
    share.pend(alice, &[(CPU, 100)], -1);
    share.pend(carol, &[(CPU, 95)], -1);
    assert!(!share.is_above(b, &[CPU], &[]));
    share.set_capacity(CPU, 40);
    assert!(share.is_above(b, &[CPU], &[]));
}

#[test]
fn claims_are_ordered_by_priority_then_part_of_the_share_then_usage() {
    let specs = [
        QueueSpec { weight: 3, ..queue("a") },
        queue("b"),
        QueueSpec { priority: 1, ..queue("high") },
        QueueSpec { limit: cpu(0), ..queue("shut") },
    ];
    let mut share = share(&specs);
    share.set_capacity(MEMORY, 100);
    let find = |share: &FairShare, name: &str| share.find(name).unwrap();
    let (a, b) = (find(&share, "a"), find(&share, "b"));
    let (high, shut) = (find(&share, "high"), find(&share, "shut"));
    let (alice, bob) = (share.acquire_leaf(a, "alice"), share.acquire_leaf(b, "bob"));
    for leaf in [alice, bob] {
        share.pend(leaf, &[(CPU, 100), (MEMORY, 100)], 1);
    }
    let one = [(CPU, 1), (PODS, 1)];
    // shares of 75 and 25
    assert_eq!(share.compare(a, &one, b, &one), Ordering::Less);
    assert_eq!(share.compare(b, &one, a, &one), Ordering::Greater);
    assert_eq!(share.compare(a, &[(CPU, 3)], b, &one), Ordering::Equal);
    assert_eq!(share.compare(a, &[(CPU, 4)], b, &one), Ordering::Greater);
    // the greatest part decides, not the first or the sum
    assert_eq!(share.compare(a, &[(CPU, 3), (MEMORY, 9)], b, &[(CPU, 2)]), Ordering::Greater);
    assert_eq!(share.compare(a, &[(CPU, 5), (MEMORY, 5)], b, &[(CPU, 2)]), Ordering::Less);
    // what is held counts, here as much as what is asked for
    share.charge(bob, &[(CPU, 2)], 1);
    share.pend(bob, &[(CPU, 2)], -1);
    assert_eq!(share.compare(a, &[(CPU, 8)], b, &one), Ordering::Less);
    assert_eq!(share.compare(a, &[(CPU, 9)], b, &one), Ordering::Equal);
    // priority goes before all, no share behind all
    assert_eq!(share.compare(high, &[(CPU, 99)], b, &one), Ordering::Less);
    assert_eq!(share.compare(shut, &one, a, &[(CPU, 1000)]), Ordering::Greater);
    assert_eq!(share.compare(shut, &one, shut, &[(CPU, 7)]), Ordering::Equal);
    assert_eq!(share.compare(a, &[], b, &[]), Ordering::Equal);
    // usage per weight decides between equal parts
    let options = UsageOptions { cpu_factor: 1000.0, ..UsageOptions::default() };
    share.set_usage_options(options);
    share.charge(alice, &[(CPU, 2)], 1);
    share.advance(Timestamp(1_000));
    share.charge(alice, &[(CPU, 2)], -1);
    // 2 of weight 3 against 2 of weight 1
    assert_eq!(share.compare(a, &[], b, &[]), Ordering::Less);
    share.charge(alice, &[(CPU, 20)], 1);
    share.advance(Timestamp(2_000));
    // now 22 against 4
    assert_eq!(share.compare(a, &[], b, &[]), Ordering::Greater);
}

#[test]
fn a_slot_that_moves_to_another_queue_takes_nothing_along() {
    let mut share = share(&[queue("a"), queue("b")]);
    let (a, b) = (share.find("a").unwrap(), share.find("b").unwrap());
    let alice = share.acquire_leaf(a, "alice");
    share.pend(alice, &[(CPU, 30)], 1);
    assert_eq!(share.deserved_milli(a, CPU), 30_000);
    share.pend(alice, &[(CPU, 30)], -1);
    share.release_leaf(alice);
    let bob = share.acquire_leaf(b, "bob");
    assert_eq!(bob, alice);
    share.pend(bob, &[(CPU, 90)], 1);
    assert_eq!((share.deserved_milli(a, CPU), share.deserved_milli(b, CPU)), (0, 90_000));
}

#[test]
fn names_bound_late_apply_to_what_is_charged_already() {
    let mut cluster = Cluster::default();
    let allocatable = vec![("nvidia.com/gpu".into(), 8), ("hugepages-2Mi".into(), 8)];
    let node = Node { name: "n".into(), allocatable, ..Node::default() };
    assert_eq!(cluster.apply_node(node), NodeApplied::NewResources);
    let gpu = cluster.resources().find("nvidia.com/gpu").unwrap();
    let pages = cluster.resources().find("hugepages-2Mi").unwrap();
    let limit = vec![("nvidia.com/gpu".into(), 2)];
    let mut share = share(&[QueueSpec { limit, ..queue("a") }]);
    let a = share.find("a").unwrap();
    let alice = share.acquire_leaf(a, "alice");
    share.set_capacity(gpu, 8);
    share.charge(alice, &[(gpu, 5), (pages, 5)], 1);
    assert_eq!((share.deserved_milli(a, gpu), share.limited_by(alice, &[(gpu, 1)])), (5_000, None));
    share.bind_resources(cluster.resources());
    share.bind_resources(cluster.resources());
    assert_eq!((share.deserved_milli(a, gpu), share.allocated(a, gpu)), (2_000, 5));
    assert_eq!(share.limited_by(alice, &[(gpu, 1)]), Some(a));
    assert_eq!((share.allocated(a, pages), share.deserved_milli(a, pages)), (0, 0));
    // a tree that comes later finds the names
    let quota = vec![("nvidia.com/gpu".into(), 3)];
    share.replace(&[QueueSpec { quota, ..queue("a") }]).unwrap();
    assert_eq!(share.guarantee(share.find("a").unwrap(), gpu), 3);
}

#[test]
fn a_user_holds_and_deserves_no_more_than_its_limit() {
    let mut share = share(&[QueueSpec { user_limit: cpu(6), ..queue("a") }, queue("b")]);
    let a = share.find("a").unwrap();
    let (alice, bob) = (share.acquire_leaf(a, "alice"), share.acquire_leaf(a, "bob"));
    assert_eq!(share.limited_by(alice, &[(CPU, 6)]), None);
    assert_eq!(share.limited_by(alice, &[(CPU, 7)]), Some(alice));
    share.charge(alice, &[(CPU, 6)], 1);
    assert_eq!(share.limited_by(alice, &[(CPU, 1)]), Some(alice));
    assert_eq!(share.limited_by(bob, &[(CPU, 6)]), None, "each user for itself");
    share.pend(alice, &[(CPU, 50)], 1);
    share.pend(bob, &[(CPU, 2)], 1);
    assert_eq!(share.deserved_milli(alice, CPU), 6_000);
    assert_eq!(share.deserved_milli(a, CPU), 8_000);
}
