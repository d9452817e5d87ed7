use super::*;
use std::fmt::Write as _;

const HEAD: &str = "apiVersion: mss-scheduler.io/v1alpha1\nkind: MssSchedulerConfiguration\n";

fn parse(body: &str) -> Result<Configuration, Error> {
    Configuration::parse(&format!("{HEAD}{body}"), "config.yaml")
}

/// The errors of a body, whose first line is line 3.
fn errors(body: &str) -> Vec<String> {
    match parse(body) {
        Ok(_) => Vec::new(),
        Err(error) => error.to_string().lines().map(str::to_owned).collect(),
    }
}

#[track_caller]
fn refuses(body: &str, expected: &[&str]) {
    assert_eq!(errors(body), expected, "for:\n{body}");
}

#[test]
fn defaults_are_as_documented() {
    let config = Configuration::default();
    assert!(config.leader_election.leader_elect);
    assert_eq!(config.leader_election.lease_duration, Duration::from_secs(15));
    assert_eq!(config.client_connection.qps, None);
    assert_eq!(config.health_bind_address, "127.0.0.1:10270".parse().ok());
    assert_eq!(config.pod_max_backoff, Duration::from_secs(10));
    assert_eq!(config.limits.binds_in_flight, 64);
    assert_eq!(config.limits.gang_members_max, 10_000);
    let [profile] = config.profiles.as_slice() else { panic!("one profile") };
    assert_eq!(profile.scheduler_name, "mss-scheduler");
    assert_eq!(profile.filters.len(), 12);
    assert_eq!(profile.scores[3], ("Packing".to_owned(), 50));
    assert_eq!(profile.fit.strategy, ScoringStrategy::MostAllocated);
}

#[test]
fn the_default_file_parses_to_the_defaults() {
    let text = explain::default_file();
    let parsed = Configuration::parse(&text, "default").unwrap_or_else(|e| panic!("{e}\n{text}"));
    assert_eq!(parsed, Configuration::default());
    assert!(text.lines().all(|line| line.chars().count() <= 140), "{text}");
}

#[test]
fn defaults_are_those_of_the_plugins() {
    let profile = &Configuration::default().profiles[0];
    let fit = crate::plugins::NodeResourcesFit::default();
    let weights = profile.fit.resources.iter().map(|r| (r.name.as_str(), i64::from(r.weight)));
    assert!(weights.eq(fit.resources.iter().map(|(name, weight)| (&**name, *weight))));
    assert!(matches!(fit.strategy, crate::plugins::ScoringStrategy::MostAllocated));
    let balanced = crate::plugins::NodeResourcesBalancedAllocation::default().resources;
    let names = profile.balanced_allocation.resources.iter().map(String::as_str);
    assert!(names.eq(balanced.iter().map(|name| &**name)));
    let architectures = Configuration::default().architectures;
    let said = architectures.iter().map(|said| (said.name.as_str(), said.preference));
    let preferences = crate::plugins::ArchitecturePreference::default().preferences;
    assert!(said.eq(preferences.iter().map(|(name, preference)| (&**name, *preference))));
}

#[test]
fn an_unknown_field_names_path_line_and_nearest() {
    refuses(
        "leaderElection:\n  leaderElect: true\n  leaseDuratoin: 15s\n",
        &["config.yaml:5: unknown field \"leaderElection.leaseDuratoin\"; did you mean \
           \"leaseDuration\"?"],
    );
    refuses("Limits: {}\n", &["config.yaml:3: unknown field \"Limits\"; did you mean \"limits\"?"]);
    refuses(
        "clientConnection: {rateLimitPerSecond: 5}\n",
        &["config.yaml:3: unknown field \"clientConnection.rateLimitPerSecond\"; known here: \
           kubeconfig, qps, burst"],
    );
}

#[test]
fn ill_typed_and_out_of_range_fields_are_refused() {
    for (body, message) in [
        (
            "limits: {bindsInFlight: many}",
            "\"limits.bindsInFlight\" must be a whole number, found the text \"many\"",
        ),
        ("limits: {bindsInFlight: 0}", "\"limits.bindsInFlight\" must be between 1 and 1024, is 0"),
        (
            "limits: {bindsInFlight: 1.5}",
            "\"limits.bindsInFlight\" must be a whole number, found the number 1.5",
        ),
        (
            "limits: {bindTimeout: 10}",
            "\"limits.bindTimeout\" must be a duration such as 15s or 1m30s, found the number 10",
        ),
        ("limits: {bindTimeout: 2m}", "\"limits.bindTimeout\" must be between 1s and 1m, is 2m"),
        (
            "leaderElection: {leaderElect: \"true\"}",
            "\"leaderElection.leaderElect\" must be true or false, found the text \"true\"",
        ),
        ("leaderElection: [a]", "\"leaderElection\" must be a section, found a list"),
        ("profiles: {}", "\"profiles\" must be a list, found a section"),
        ("profiles: [gpu]", "\"profiles[0]\" must be a section, found the text \"gpu\""),
        (
            "healthBindAddress: localhost:80",
            "\"healthBindAddress\" must be an IP address and a port like 0.0.0.0:10270, is \
             \"localhost:80\"",
        ),
        (
            "profiles: [{schedulerName: My_Scheduler}]",
            "\"profiles[0].schedulerName\" must be a name of lower-case letters, digits, '-' and \
             '.', is \"My_Scheduler\"",
        ),
    ] {
        refuses(body, &[&format!("config.yaml:3: {message}")]);
    }
}

#[test]
fn rules_across_fields_hold() {
    refuses(
        "leaderElection:\n  leaseDuration: 10s\n",
        &["config.yaml:3: \"leaderElection.renewDeadline\" (10s) must be shorter than \
           \"leaderElection.leaseDuration\" (10s)"],
    );
    refuses(
        "leaderElection:\n  retryPeriod: 9s\n",
        &["config.yaml:4: 1.2 times \"leaderElection.retryPeriod\" (9s) must be shorter than \
           \"leaderElection.renewDeadline\" (10s)"],
    );
    refuses(
        "limits: {leaseMargin: 5s}\n",
        &["config.yaml:3: \"limits.leaseMargin\" (5s) must be shorter than \
           \"leaderElection.leaseDuration\" less \"leaderElection.renewDeadline\" (5s)"],
    );
    refuses(
        "podInitialBackoffSeconds: 20\n",
        &["config.yaml:1: \"podMaxBackoffSeconds\" (10) must not be below \
           \"podInitialBackoffSeconds\" (20)"],
    );
    refuses(
        "quarantine: {for: 5h}\n",
        &["config.yaml:3: \"quarantine.forMax\" (4h) must not be below \"quarantine.for\" (5h)"],
    );
    refuses(
        "clientConnection:\n  qps: 50\n",
        &["config.yaml:4: \"clientConnection.qps\" and \"clientConnection.burst\" must be set \
           together"],
    );
    refuses(
        "profiles:\n- schedulerName: a\n- schedulerName: a\n",
        &["config.yaml:5: \"profiles[1].schedulerName\" \"a\" is already the name of another \
           profile"],
    );
}

#[test]
fn plugins_are_merged_as_upstream_merges_them() {
    let config = parse(
        "profiles:\n- plugins:\n    score:\n      disabled: [{name: '*'}]\n      enabled:\n      \
         - {name: GpuPacking, weight: 7}\n      - {name: NodeAffinity}\n    filter:\n      \
         disabled: [{name: NodePorts}]\n- schedulerName: b\n  plugins:\n    score:\n      \
         enabled: [{name: TaintToleration, weight: 9}, {name: NodeResourcesFit, weight: 5}]\n",
    )
    .unwrap();
    let scores = [("GpuPacking".to_owned(), 7), ("NodeAffinity".to_owned(), 2)];
    assert_eq!(config.profiles[0].scores, scores);
    assert!(!config.profiles[0].filters.contains(&"NodePorts".to_owned()));
    let scores = &config.profiles[1].scores;
    assert_eq!(scores[1], ("TaintToleration".to_owned(), 9), "at its place");
    assert_eq!(scores[4..], [("NodeResourcesFit".to_owned(), 5)]);
    for name in crate::plugins::MORE_SCORES {
        let text = format!(
            "profiles:\n- plugins: {{score: {{disabled: [{{name: '*'}}], enabled: \
             [{{name: {name}, weight: 3}}]}}}}\n"
        );
        let scores = parse(&text).unwrap().profiles[0].scores.clone();
        assert_eq!(scores, [((*name).to_owned(), 3)]);
        assert!(crate::plugins::score(name, &crate::plugins::Arguments::default()).is_some());
    }
}

#[test]
fn unknown_and_required_plugins_are_told() {
    refuses(
        "profiles:\n- plugins:\n    score:\n      enabled:\n      - name: GpuPacker\n      \
         - weight: 5\n",
        &[
            "config.yaml:7: \"profiles[0].plugins.score.enabled[0].name\" names the unknown plugin \
             \"GpuPacker\"; did you mean \"GpuPacking\"?",
            "config.yaml:8: missing \"profiles[0].plugins.score.enabled[1].name\"",
        ],
    );
    refuses(
        "profiles:\n- plugins:\n    filter:\n      disabled: [{name: NodeResourcesFit}]\n",
        &["config.yaml:5: \"profiles[0].plugins.filter\" must not disable NodeResourcesFit: pods \
           would be bound where the kubelet refuses them"],
    );
    refuses(
        "profiles:\n- plugins:\n    filter:\n      disabled: [{name: GpuSharing}]\n",
        &["config.yaml:5: \"profiles[0].plugins.filter\" must not disable GpuSharing: parts of \
           GPUs would be given out where there are none"],
    );
}

#[test]
fn arguments_are_typed_by_plugin() {
    let config = parse(
        "profiles:\n- pluginConfig:\n  - name: NodeResourcesFit\n    args:\n      \
         scoringStrategy:\n        type: RequestedToCapacityRatio\n        resources: \
         [{name: nvidia.com/gpu, weight: 5}]\n        requestedToCapacityRatio:\n          shape: \
         [{utilization: 0, score: 10}, {utilization: 80, score: 2}]\n",
    )
    .unwrap();
    let fit = &config.profiles[0].fit;
    assert_eq!(fit.resources, [ResourceWeight { name: "nvidia.com/gpu".to_owned(), weight: 5 }]);
    let points = [(0, 10), (80, 2)].map(|(utilization, score)| ShapePoint { utilization, score });
    assert_eq!(fit.strategy, ScoringStrategy::RequestedToCapacityRatio(points.to_vec()));

    let entry = |text: &str| format!("profiles:\n- pluginConfig:\n  - {text}\n");
    let place = "profiles[0].pluginConfig[0].args";
    refuses(
        &entry("{name: NodeResourcesFit, args: {scoringStrategy: {type: MostAlocated}}}"),
        &[&format!(
            "config.yaml:5: \"{place}.scoringStrategy.type\" must be LeastAllocated or \
             MostAllocated or RequestedToCapacityRatio, is \"MostAlocated\"; did you mean \
             \"MostAllocated\"?"
        )],
    );
    refuses(
        &entry("{name: NodePorts, args: {}}"),
        &[&format!("config.yaml:5: plugin NodePorts takes no arguments, remove \"{place}\"")],
    );
    refuses(
        &entry("{name: NodeResourcesBalancedAllocation, args: {resource: [a]}}"),
        &[&format!(
            "config.yaml:5: unknown field \"{place}.resource\"; did you mean \"resources\"?"
        )],
    );
    let shape = "[{utilization: 50, score: 1}, {utilization: 50, score: 2}]";
    let ratio = format!("{{scoringStrategy: {{requestedToCapacityRatio: {{shape: {shape}}}}}}}");
    refuses(
        &entry(&format!("{{name: NodeResourcesFit, args: {ratio}}}")),
        &[&format!(
            "config.yaml:5: \"{place}.scoringStrategy.requestedToCapacityRatio.shape\" needs \
             points whose utilization rises strictly"
        )],
    );
}

#[test]
fn several_problems_are_told_together_in_line_order() {
    let found = errors(
        "limits:\n  bindsInFlight: -1\n  bindTimeOut: 5s\nleaderElection:\n  renewDeadline: 20s\n",
    );
    let lines: Vec<&str> = found.iter().filter_map(|error| error.split(':').nth(1)).collect();
    assert_eq!(lines, ["4", "5", "7"], "{found:?}");
}

#[test]
fn broken_yaml_and_missing_head_are_told() {
    let found = errors("limits: {bindsInFlight: 1\n");
    assert!(found[0].contains("invalid YAML"), "{found:?}");
    let found = errors("limits: {}\nlimits: {}\n");
    assert!(found[0].starts_with("config.yaml:4: invalid YAML"), "{found:?}");
    let error = Configuration::parse("", "f").unwrap_err().to_string();
    assert!(error.contains("missing \"kind: MssSchedulerConfiguration\""), "{error}");
    let error = Configuration::parse("kind: Pod\napiVersion: v1\n", "f").unwrap_err().to_string();
    assert_eq!(error.lines().count(), 2, "{error}");
    assert!(matches!(Configuration::load(Path::new("/nonexistent/file")), Err(Error::Read { .. })));
}

#[test]
fn null_counts_as_absent() {
    assert_eq!(parse("leaderElection:\nprofiles: []\n").unwrap(), Configuration::default());
}

#[test]
fn every_field_is_explained() {
    for field in fields::FIELDS {
        assert!(field.doc.ends_with(['.', ')']), "{}", field.path);
        let text = explain::explain(field.path).unwrap();
        assert!(text.contains(field.path), "{text}");
    }
    assert!(explain::explain("profiles.schedulerName").unwrap().contains("spec.schedulerName"));
    assert!(explain::explain("").unwrap().contains("leaderElection"));
    let error = explain::explain("limits.bindInFlight").unwrap_err();
    assert!(error.ends_with("did you mean \"limits.bindsInFlight\"?"), "{error}");
}

#[test]
fn table_defaults_keep_their_own_rules() {
    let mut file = String::new();
    for field in fields::FIELDS.iter().filter(|f| f.path.starts_with("limits.")) {
        let _ = write!(file, "{}: {}, ", field.name(), field.default);
    }
    assert_eq!(parse(&format!("limits: {{{file}}}")).unwrap(), Configuration::default());
}

#[test]
fn the_effective_configuration_is_json() {
    let json = serde_json::to_value(Configuration::default()).unwrap();
    assert_eq!(json["leaderElection"]["leaseDuration"], "15s");
    assert_eq!(json["limits"]["bindsInFlight"], 64);
}

#[test]
fn topology_levels_default_to_those_that_are_known() {
    let levels = Configuration::default().topology.levels;
    let labels: Vec<&str> = levels.iter().map(|level| level.node_label.as_str()).collect();
    assert_eq!(labels, crate::cluster::KNOWN_LEVELS);
}

#[test]
fn a_topology_level_is_the_key_of_a_label() {
    refuses(
        "topology: {levels: [{nodeLabel: a b}]}\n",
        &["config.yaml:3: \"topology.levels[0].nodeLabel\" must be the key of a label like \
           example.com/rack, is \"a b\""],
    );
}

#[test]
fn levels_architectures_and_dedicated_nodes_are_checked() {
    refuses(
        "topology:\n  levels:\n  - {nodeLabel: a, name: rack}\n  - {nodeLabel: b, name: rack}\n\
         architectures:\n- {name: arm64, preference: 4}\n- {preference: 1}\n- {name: arm64}\n\
         dedicatedNodes:\n  labelKey: a b\n",
        &[
            "config.yaml:6: \"topology.levels[1].name\" \"rack\" is listed twice",
            "config.yaml:8: \"architectures[0].preference\" must be between 0 and 3, is 4",
            "config.yaml:9: missing \"architectures[1].name\"",
            "config.yaml:10: \"architectures[2].name\" \"arm64\" is listed twice",
            "config.yaml:12: \"dedicatedNodes.labelKey\" must be the key of a label like \
             example.com/rack, is \"a b\"",
        ],
    );
}
