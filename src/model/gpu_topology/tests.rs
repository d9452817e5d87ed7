use super::*;

fn dgx1() -> GpuTopology {
    let labels = |key: &str| match key {
        PRODUCT_LABEL => Some("Tesla-V100-SXM2-32GB"),
        COUNT_LABEL => Some("8"),
        _ => None,
    };
    of_node(None, labels, None).unwrap().unwrap()
}

#[test]
fn texts_are_read_and_written() {
    for text in [
        "v1 gpus=1",
        "v1 gpus=1 numa=1:0",
        "v1 gpus=8 numa=0:0-3/1:4-7 else=NV18",
        "v1 gpus=8 numa=0:0-3/1:4-7 PIX=0-1/2-3/4-5/6-7 PHB=0-3/4-7 else=SYS",
        "v1 gpus=8 NV6=0-3/4-7 else=NODE",
        "v1 gpus=64 numa=0:0-31/1:32-63 NV6=0-31/32-63 else=NODE",
        "v1 gpus=4 numa=0:0+2/1:1+3 NV4=0+2/1+3 else=SYS",
    ] {
        assert_eq!(GpuTopology::parse(text).unwrap().to_string(), text);
    }
    let text = "v1 gpus=8 numa=0:0-3/1:4-7 NV2=0+3/0+4/1-2/1+5/2-3/4+7/5-6/6-7 \
                NV1=0-1/0+2/1+3/2+6/3+7/4-5/4+6/5+7 else=SYS";
    assert_eq!(dgx1().to_string(), text);
    assert_eq!(GpuTopology::parse(text), Ok(dgx1()));
}

#[test]
fn a_pair_that_is_named_twice_has_the_stronger_link() {
    let topology = GpuTopology::parse("v1  gpus=3 PHB=0-2 NV4=0+2").unwrap();
    assert_eq!((topology.link(0, 2), topology.link(2, 1)), (Link::Nv(4), Link::Phb));
}

#[test]
fn a_wrong_text_is_refused_with_what_would_be_right() {
    for (text, problem) in [
        ("", "it does not begin with v1, the only version there is"),
        ("v2 gpus=8", "it does not begin with v1, the only version there is"),
        ("v1", "after v1: expected the number of devices, as gpus=8"),
        ("v1 gpus=0", "after v1: expected the number of devices, as gpus=8"),
        ("v1 gpus=65", "after v1: expected the number of devices, as gpus=8"),
        ("v1 gpus=+2 else=SYS", "after v1: expected the number of devices, as gpus=8"),
        ("v1 gpus=2", "devices 0 and 1 are joined by no link: name it, or add else=SYS"),
        ("v1 gpus=2 else", "\"else\": expected numa=, else= or a link as NV4=, with a value"),
        ("v1 gpus=2 else=NV0", "else=NV0: expected a link, as SYS or NV4"),
        ("v1 gpus=2 else=NV999", "else=NV999: expected a link, as SYS or NV4"),
        ("v1 gpus=2 XX=0-1", "\"XX=0-1\": expected numa=, else= or a link as NV4=, with a value"),
        ("v1 gpus=2 NV4=0", "NV4=0: \"0\": a link joins two devices or more"),
        ("v1 gpus=2 NV4=0-2", "NV4=0-2: \"0-2\": expected devices of 0 to 1, as 0-3 or 0+3"),
        ("v1 gpus=2 NV4=1-0", "NV4=1-0: \"1-0\": expected devices of 0 to 1, as 0-3 or 0+3"),
        ("v1 gpus=2 NV4=0+0", "NV4=0+0: \"0+0\": device 0 is named twice"),
        ("v1 gpus=2 NV4=0-1 NV4=0-1", "NV4 is said twice"),
        ("v1 gpus=2 numa=0:0 else=SYS", "numa: device 1 is not named"),
        ("v1 gpus=2 numa=0:0-1/1:1 else=SYS", "numa: device 1 is named twice"),
        ("v1 gpus=2 numa=0-1 else=SYS", "numa: \"0-1\": expected devices of a node, as 0:0-3"),
    ] {
        assert_eq!(GpuTopology::parse(text).unwrap_err().to_string(), problem, "{text}");
    }
}

#[test]
fn too_many_devices_that_all_differ_are_refused() {
    let differ = |a: usize, b: usize| Link::Nv(u8::try_from(a * 7 + b).unwrap().max(1));
    assert!(GpuTopology::new(16, Vec::new(), differ).is_ok());
    let error = GpuTopology::new(17, Vec::new(), differ).unwrap_err().to_string();
    assert!(error.contains("17 devices of 17 kinds"), "{error}");
    assert!(GpuTopology::new(64, Vec::new(), |_, _| Link::Nv(18)).is_ok());
    assert!(GpuTopology::new(65, Vec::new(), |_, _| Link::Nv(18)).is_err());
    assert!(GpuTopology::new(0, Vec::new(), |_, _| Link::Nv(18)).is_err());
}

#[test]
fn sixty_four_alike_are_chosen_from_at_once() {
    let numa = (0..64).map(|device| device / 16).collect();
    let topology = GpuTopology::new(64, numa, |_, _| Link::Nv(18)).unwrap();
    let free = topology.all().minus(DeviceSet::lowest(20));
    let set = topology.choose(free, 16).unwrap();
    assert_eq!(set, (32..48).collect());
}

#[test]
fn a_machine_of_sixteen_that_all_differ_is_searched_whole() {
    let link = |a: usize, b: usize| Link::Nv(u8::try_from((a * 31 + b * 17) % 40 + 1).unwrap());
    let topology = GpuTopology::new(16, Vec::new(), link).unwrap();
    assert_eq!(topology.choose(topology.all(), 8).unwrap().len(), 8);
}

#[test]
fn islands_are_what_nvlink_holds_together() {
    let shown = |text: &str| {
        let topology = GpuTopology::parse(text).unwrap();
        let islands = topology.islands().iter().map(ToString::to_string).collect::<Vec<_>>();
        (islands.join(" "), topology.is_one_island())
    };
    assert_eq!(shown("v1 gpus=4 else=NV12"), ("0,1,2,3".into(), true));
    assert_eq!(shown("v1 gpus=4 NV4=0+3 PIX=1+2 else=SYS"), ("0,3 1 2".into(), false));
    assert_eq!(shown("v1 gpus=1"), ("0".into(), true));
    assert_eq!(shown(&dgx1().to_string()), ("0,1,2,3,4,5,6,7".into(), false));
}

#[test]
fn well_known_machines_are_known_by_their_products() {
    for (product, count, text) in [
        ("NVIDIA-A100-SXM4-80GB", "8", "v1 gpus=8 numa=0:0-3/1:4-7 else=NV12"),
        ("NVIDIA-H100-80GB-HBM3", "8", "v1 gpus=8 numa=0:0-3/1:4-7 else=NV18"),
        ("NVIDIA-H100-80GB-HBM3", "4", "v1 gpus=4 numa=0:0-1/1:2-3 else=NV18"),
        ("NVIDIA-H200", "8", "v1 gpus=8 numa=0:0-3/1:4-7 else=NV18"),
        ("NVIDIA-B200", "8", "v1 gpus=8 numa=0:0-3/1:4-7 else=NV18"),
        ("Tesla-V100-SXM3-32GB", "16", "v1 gpus=16 numa=0:0-7/1:8-15 else=NV6"),
        ("Tesla-T4", "4", "v1 gpus=4 numa=0:0-1/1:2-3 PIX=0-1/2-3 else=SYS"),
        (
            "NVIDIA-A100-PCIE-40GB",
            "8",
            "v1 gpus=8 numa=0:0-3/1:4-7 PIX=0-1/2-3/4-5/6-7 NODE=0-3/4-7 else=SYS",
        ),
        ("NVIDIA-A100-SXM4-80GB", "1", ""),
        ("NVIDIA-A100-SXM4-80GB", "16", ""),
        ("NVIDIA-A100-SXM4-40GB-MIG-1g.5gb", "8", ""),
        ("NVIDIA-A100-SXM4-40GB-SHARED", "8", ""),
        ("Tesla-V100-SXM2-32GB", "4", ""),
        ("NVIDIA-H100-NVL", "8", ""),
        ("NVIDIA-GeForce-RTX-4090", "8", ""),
        ("NVIDIA-H200", "eight", ""),
    ] {
        let labels = |key: &str| Some(if key == PRODUCT_LABEL { product } else { count });
        let known = of_node(None, labels, None).unwrap();
        let shown = known.map(|known| known.to_string()).unwrap_or_default();
        assert_eq!(shown, text, "{count} {product}");
    }
}

#[test]
fn an_annotation_comes_before_the_product() {
    let labels = |key: &str| Some(if key == PRODUCT_LABEL { "NVIDIA-H200" } else { "8" });
    let said = of_node(Some("v1 gpus=2 else=PIX"), labels, None).unwrap().unwrap();
    assert_eq!(said.to_string(), "v1 gpus=2 else=PIX");
    let error = of_node(Some("nonsense"), labels, None).unwrap_err().to_string();
    assert_eq!(
        error,
        "annotation mss-scheduler.io/gpu-topology is \"nonsense\": it does not begin with v1, the \
         only version there is"
    );
}

/// How the GPUs of a node are joined that has these labels, without a count if it is 0.
fn joined(product: &str, count: usize, reported: &Reported) -> String {
    let count = count.to_string();
    let labels = |key: &str| match key {
        PRODUCT_LABEL => Some(product).filter(|product| !product.is_empty()),
        _ => Some(&*count).filter(|count| *count != "0"),
    };
    let known = of_node(None, labels, Some(reported)).unwrap();
    known.map(|known| known.to_string()).unwrap_or_default()
}

#[test]
fn counts_by_numa_node_say_where_gpus_are_and_the_product_how_they_are_joined() {
    let halves = Reported::counted(&[(0, 4), (1, 4)], vec![]).unwrap();
    let plain = "v1 gpus=8 numa=0:0-3/1:4-7 NODE=0-3/4-7 else=SYS";
    assert_eq!(joined("NVIDIA-GeForce-RTX-4090", 8, &halves), plain);
    assert_eq!(joined("", 8, &halves), plain);
    assert_eq!(joined("Tesla-T4", 8, &halves), plain, "what is assumed of cards stands back");
    let odd = Reported::counted(&[(0, 2), (3, 6)], vec![]).unwrap();
    assert_eq!(joined("NVIDIA-H200", 8, &odd), "v1 gpus=8 numa=0:0-1/3:2-7 else=NV18");
    let mesh = joined("Tesla-V100-SXM2-32GB", 8, &odd);
    assert!(mesh.starts_with("v1 gpus=8 numa=0:0-1/3:2-7 NV2="), "{mesh}");
    assert!(mesh.contains("else=SYS") && mesh.contains("NODE="), "{mesh}");

    assert_eq!(joined("NVIDIA-GeForce-RTX-4090", 4, &halves), "", "of another machine");
    assert_eq!(joined("NVIDIA-GeForce-RTX-4090", 0, &halves), "", "they may be replicas");
    assert_eq!(joined("NVIDIA-GeForce-RTX-4090-SHARED", 8, &halves), "");
    assert_eq!(Reported::counted(&[(0, 0)], vec![]), None);
    assert_eq!(Reported::counted(&[(0, 60), (1, 5)], vec![]), None);

    let near = vec![(0, 1), (2, 3)];
    let four = Reported::counted(&[(0, 1), (1, 1), (2, 1), (3, 1)], near).unwrap();
    let text = "v1 gpus=4 numa=0:0/1:1/2:2/3:3 NODE=0-1/2-3 else=SYS";
    assert_eq!(joined("", 4, &four), text);
}

#[test]
fn gpus_that_are_named_say_each_for_itself_where_they_are() {
    let gpus = |said: &[(Option<u8>, &str)]| -> Vec<ReportedGpu> {
        let gpu = |(numa, root): &(Option<u8>, &str)| ReportedGpu {
            numa: *numa,
            root: Some(*root).filter(|root| !root.is_empty()).map(Into::into),
        };
        said.iter().map(gpu).collect()
    };
    let (zero, one) = (Some(0), Some(1));
    let cards = gpus(&[(zero, "a"), (one, "b"), (zero, "a"), (zero, "c")]);
    let cards = Reported::named(cards, None).unwrap();
    let text = "v1 gpus=4 numa=0:0+2-3/1:1 PHB=0+2 NODE=0+2-3 else=SYS";
    assert_eq!(joined("", 0, &cards), text);
    let roots = Reported::named(gpus(&[(None, "a"), (None, "a"), (zero, "b")]), None).unwrap();
    assert_eq!(joined("", 0, &roots), "v1 gpus=3 PHB=0-1 else=SYS", "NUMA nodes of all or of none");
    let some = Reported::named(gpus(&[(zero, "a"), (None, "")]), None).unwrap();
    assert_eq!(joined("", 0, &some), "");
    let product = Some("NVIDIA H100 80GB HBM3".into());
    let board = Reported::named(gpus(&[(one, ""), (zero, "")]), product).unwrap();
    assert_eq!(joined("", 0, &board), "v1 gpus=2 numa=0:1/1:0 else=NV18");
    assert_eq!(joined("Tesla-T4", 0, &board), "v1 gpus=2 numa=0:1/1:0 else=SYS", "the label wins");
    assert_eq!(Reported::named(vec![], None), None);
}

#[test]
fn what_nvidia_smi_prints_is_read_whole_or_not_at_all() {
    for (text, problem) in [
        ("", "no line begins with GPU0: expected the output of nvidia-smi topo -m"),
        ("\tGPU0\tGPU1\nGPU0\t X \tNV1\n", "the row of GPU1 is missing"),
        (
            "\tGPU0\tGPU1\nGPU0\t X \tNV1\nGPU1\tNV2\t X \n",
            "GPU0 to GPU1 is NV1, GPU1 to GPU0 is NV2",
        ),
        (
            "\tGPU0\tGPU1\nGPU0\t X \tN/A\nGPU1\tN/A\t X \n",
            "GPU0 to GPU1 is \"N/A\": expected SYS, NODE, PHB, PXB, PIX, PSB or NV#",
        ),
        ("\tGPU0\tGPU1\nGPU0\t X \tNV1\nGPU1\tNV1\n", "GPU1 to GPU1 is \"\": expected X"),
    ] {
        assert_eq!(GpuTopology::parse_smi(text).unwrap_err().to_string(), problem, "{text}");
    }
    let old = "\tGPU0\tGPU1\tCPU Affinity\nGPU0\t X \tSOC\t0-11\nGPU1\tSOC\t X \t12-23\n";
    let old = GpuTopology::parse_smi(old).unwrap();
    assert_eq!(old.to_string(), "v1 gpus=2 numa=0:0/1:1 else=SYS");
    let spread = "\tGPU0\tCPU Affinity\tNUMA Affinity\nGPU0\t X \t0-11\t0-1\n";
    assert_eq!(GpuTopology::parse_smi(spread).unwrap().to_string(), "v1 gpus=1");
}

#[test]
fn sets_are_written_as_indexes() {
    let set: DeviceSet = [5, 0, 3].into_iter().collect();
    assert_eq!(set.to_string(), "0,3,5");
    assert_eq!(DeviceSet::parse("0,3,5"), Some(set));
    for text in ["", "3,0", "0,0", "64", "01", " 0", "0,", "+1", "0-3"] {
        assert_eq!(DeviceSet::parse(text), None, "{text:?}");
    }
}
