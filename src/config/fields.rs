//! The table of every field: what it means, what it may be, what it is when absent.
//!
//! The check of a file, its defaults, `config default`, `config explain` and
//! `docs/configuration.md` are all read from this table, so they cannot disagree.

use super::queues::USERS;
use crate::model::queue::Ordering;
use Form::{Address, Any, LabelKey, MaybeLabelKey, Name, OneOf, Resource, Shared};
use Kind::{Args, Decimal, Duration, Flag, Integer, List, Section, Text};

/// One field of the file.
#[derive(Debug)]
pub struct Field {
    /// Path from the root (or from an argument type such as `NodeResourcesFitArgs`); `[]` marks the
    /// elements of a list.
    pub path: &'static str,
    /// What it may hold.
    pub kind: Kind,
    /// Its value when absent, as YAML; empty for a section.
    pub default: &'static str,
    /// What it does, in which unit, and why the default is what it is.
    pub doc: &'static str,
}

/// What a field may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Fields below it.
    Section,
    /// A list of sections, at most this many.
    List(usize),
    /// A text.
    Text(Form),
    /// `true` or `false`.
    Flag,
    /// A whole number within bounds, both included.
    Integer(i64, i64),
    /// A number within bounds, both included.
    Decimal(i64, i64),
    /// A duration within bounds in milliseconds, both included.
    Duration(u64, u64),
    /// The arguments of the plugin that the sibling field `name` names.
    Args,
}

/// What a text may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Any text.
    Any,
    /// A name as Kubernetes forms it (lower case, digits, `-` and `.`), or nothing.
    Name,
    /// `IP:port`, or nothing.
    Address,
    /// A resource name such as `cpu` or `nvidia.com/gpu`.
    Resource,
    /// A resource name, or one that is narrowed by a label: `nvidia.com/gpu@key=value`.
    Shared,
    /// The key of a label.
    LabelKey,
    /// The key of a label, or nothing.
    MaybeLabelKey,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// The name of a plugin, or `*`.
    Plugin,
}

impl Field {
    /// The last part of the path.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.path.rsplit('.').next().unwrap_or(self.path)
    }
}

/// The field at a path, `[]` included.
#[must_use]
pub fn find(path: &str) -> Option<&'static Field> {
    FIELDS.iter().find(|field| field.path == path)
}

/// The fields directly below a path (`""` for the root), in table order.
pub fn children(path: &str) -> impl Iterator<Item = &'static Field> + Clone {
    FIELDS.iter().filter(move |field| match field.path.rsplit_once('.') {
        Some((parent, _)) => parent == path,
        None => path.is_empty() && !field.path.ends_with("Args"),
    })
}

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;

const fn field(path: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Field {
    Field { path, kind, default, doc }
}

/// Every field, sections before their fields.
#[rustfmt::skip]
pub static FIELDS: &[Field] = &[
    field("apiVersion", Text(OneOf(&[super::API_VERSION])), super::API_VERSION,
        "Version of this format. Required."),
    field("kind", Text(OneOf(&[super::KIND])), super::KIND,
        "Kind of this file. Required."),

    field("leaderElection", Section, "",
        "Which of several replicas schedules. The others stand by with warm caches."),
    field("leaderElection.leaderElect", Flag, "true",
        "Hold a Lease before deciding anything. Turn it off only where a second replica cannot \
         exist: two schedulers at once would both bind."),
    field("leaderElection.resourceName", Text(Name), "mss-scheduler",
        "Name of the Lease. Replicas that share it elect one leader among them."),
    field("leaderElection.resourceNamespace", Text(Name), "kube-system",
        "Namespace of the Lease. The default exists in every cluster; the shipped manifests set \
         the scheduler's own, where its role allows it."),
    field("leaderElection.leaseDuration", Duration(2 * SECOND, 10 * MINUTE), "15s",
        "How long a lease that is not renewed stays valid. A standby waits this long before it \
         takes over, so it bounds the pause after a crash. The default is upstream's."),
    field("leaderElection.renewDeadline", Duration(SECOND, 10 * MINUTE), "10s",
        "A leader that could not renew for this long stops scheduling. Must be shorter than \
         leaseDuration; the difference is the margin against slow clocks."),
    field("leaderElection.retryPeriod", Duration(100, MINUTE), "2s",
        "Pause between attempts to take or renew the lease. 1.2 times this must be shorter than \
         renewDeadline, or one failed attempt would lose the lease."),

    field("clientConnection", Section, "",
        "The connection to the API server."),
    field("clientConnection.kubeconfig", Text(Any), "\"\"",
        "Path of a kubeconfig file. Empty: the file named by KUBECONFIG, else ~/.kube/config, \
         else the pod's service account."),
    field("clientConnection.qps", Integer(0, 1_000_000), "0",
        "Most requests per second, averaged. 0: no limit of our own. The API server's priority \
         and fairness is the better judge, and every lane of requests is bounded by `limits`."),
    field("clientConnection.burst", Integer(0, 1_000_000), "0",
        "Requests that may exceed qps at once. 0: no limit. Set it if and only if qps is set."),

    field("healthBindAddress", Text(Address), "127.0.0.1:10270",
        "Where /livez, /readyz, /healthz, /metrics and /configz are served, as plain HTTP without \
         authentication; hence loopback by default. The shipped Deployment binds all addresses \
         and a NetworkPolicy guards the port. Port 0 takes a free one; empty serves nothing. \
         (10259 would collide with kube-scheduler on a control-plane host.)"),
    field("readyWhenStandby", Flag, "true",
        "Whether a replica that is synced but not the leader answers /readyz with 200. With false, \
         a rolling update of two replicas never completes, but a Service reaches only the leader."),

    field("podInitialBackoffSeconds", Integer(1, 3_600), "1",
        "Seconds a gang waits after its first failed attempt. Doubled by each further failure."),
    field("podMaxBackoffSeconds", Integer(1, 3_600), "10",
        "Most seconds a gang waits between attempts. Not below podInitialBackoffSeconds."),

    field("profiles", List(super::PROFILES_MAX), "[{schedulerName: mss-scheduler}]",
        "One entry per schedulerName that is served. Absent or empty: one, with every default."),
    field("profiles[].schedulerName", Text(Name), "mss-scheduler",
        "Pods whose spec.schedulerName equals this are ours. Unique among profiles."),
    field("profiles[].plugins", Section, "",
        "What differs from the default plugins, as in KubeSchedulerConfiguration: `disabled` \
         removes defaults, `enabled` adds plugins or changes the weight of a default. The \
         plugins PrioritySort, SchedulingGates and GangGate always run: the promise about gangs \
         stands on them."),
    field("profiles[].plugins.filter", Section, "",
        "Plugins that decide whether a node may run a pod. NodeName, NodeResourcesFit, \
         GpuSharing and DynamicResources cannot be disabled: without them pods are bound where \
         they cannot run."),
    field("profiles[].plugins.filter.enabled", List(64), "[]",
        "Filters to add after the defaults."),
    field("profiles[].plugins.filter.enabled[].name", Text(Form::Plugin), "",
        "Name of a filter plugin. Required."),
    field("profiles[].plugins.filter.disabled", List(64), "[]",
        "Filters to leave out of the defaults."),
    field("profiles[].plugins.filter.disabled[].name", Text(Form::Plugin), "",
        "Name of a filter plugin, or \"*\" for all. Required."),
    field("profiles[].plugins.score", Section, "",
        "Plugins that rank the nodes that may run a pod, each with a weight."),
    field("profiles[].plugins.score.enabled", List(64), "[]",
        "Scores to add after the defaults, or defaults whose weight changes."),
    field("profiles[].plugins.score.enabled[].name", Text(Form::Plugin), "",
        "Name of a score plugin. Required."),
    field("profiles[].plugins.score.enabled[].weight", Integer(1, 100), "",
        "Factor of this plugin's score, which is 0 to 100. Absent: the plugin's default weight."),
    field("profiles[].plugins.score.disabled", List(64), "[]",
        "Scores to leave out of the defaults."),
    field("profiles[].plugins.score.disabled[].name", Text(Form::Plugin), "",
        "Name of a score plugin, or \"*\" for all. Required."),
    field("profiles[].pluginConfig", List(16), "[]",
        "Arguments of plugins."),
    field("profiles[].pluginConfig[].name", Text(Form::Plugin), "",
        "Name of a plugin that takes arguments. Required, and unique within the profile."),
    field("profiles[].pluginConfig[].args", Args, "",
        "Its arguments: a section of the type named after the plugin, such as NodeResourcesFitArgs."),

    field("queues", Section, "",
        "What is kept and shown of the queues."),
    field("queues.file", Text(Any), "\"\"",
        "Path of a file of Queue objects as YAML documents, for clusters where the kind is not \
         installed. It is the whole tree then: Queue objects of the cluster are neither read nor \
         written, and a warning says so if there are any. It is read once; whatever is wrong with \
         it ends the program. Empty: the tree is that of the Queue objects."),
    field("queues.users", Text(OneOf(USERS)), "Namespace",
        "Who the users below a queue are. Namespace: each namespace is one. Stamped: those that the \
         annotation mss-scheduler.io/user names, which the admission policies in manifests/users \
         write and nobody else may; pods without it are their namespace's. Say Stamped only with \
         the policies in force."),
    field("queues.ordering", Text(OneOf(Ordering::WORDS)), "FairShare",
        "The order of the queues at the top of the tree, as `spec.ordering` of a Queue is that of \
         what is below it."),
    field("queues.lsf", Section, "",
        "The order `Lsf`: LSF's dynamic user priority, with the parameters of `lsb.params` under \
         their names there and with their defaults. Times count in hours. \
         FAIRSHARE_ADJUSTMENT_FACTOR and FWD_JOB_FACTOR are unknown here: there is neither a \
         plug-in nor another cluster that would give them something to multiply."),
    field("queues.lsf.CPU_TIME_FACTOR", Decimal(0, 1_000_000), "0.7",
        "Weight of the core-hours that were requested, those long past counting less."),
    field("queues.lsf.RUN_TIME_FACTOR", Decimal(0, 1_000_000), "0.7",
        "Weight of the run time of the pods that run."),
    field("queues.lsf.COMMITTED_RUN_TIME_FACTOR", Decimal(0, 1_000_000), "0",
        "Weight of the time that pods with activeDeadlineSeconds may still run. With it the \
         priority falls when they start, not little by little."),
    field("queues.lsf.RUN_JOB_FACTOR", Decimal(0, 1_000_000), "3",
        "Weight of the pods that hold room, and one more."),
    field("queues.lsf.GPU_RUN_TIME_FACTOR", Decimal(0, 1_000_000), "0",
        "Weight of the GPU-hours of the pods that run."),
    field("queues.lsf.HIST_HOURS", Decimal(0, 1_000_000), "5",
        "In how many hours the past comes to count a tenth. 0: it never fades."),
    field("queues.lsf.ENABLE_HIST_RUN_TIME", Flag, "false",
        "Whether the run time of pods that ended counts too. It is forgotten by a new leader."),
    field("queues.lsf.ENABLE_GPU_HIST_RUN_TIME", Flag, "false",
        "Whether the GPU-hours of pods that ended count too. They are forgotten by a new leader."),
    field("queues.statusInterval", Duration(SECOND, 60 * MINUTE), "5s",
        "How often a queue's status is written at most. It is written when something changed, not \
         because time passed."),
    field("queues.capacityHold", Duration(0, 60 * MINUTE), "60s",
        "How long a drop of the capacity must last before shares follow: a node that is away for \
         a moment costs nobody his room."),
    field("queues.usageHalfLife", Duration(MINUTE, 100 * 24 * 60 * MINUTE), "2h",
        "In what time past usage comes to count half. Usage decides between those who hold equal \
         parts of their shares; shares do not depend on it."),
    field("queues.cpuFactor", Integer(0, 1_000_000), "0",
        "Usage per core and second."),
    field("queues.memoryFactor", Integer(0, 1_000_000), "0",
        "Usage per GiB and second."),
    field("queues.gpuFactor", Integer(0, 1_000_000), "4",
        "Usage per GPU, or slice of one, and second."),
    field("queues.factors", List(64), "[]",
        "Usage per unit and second of single resources, before the three above. One that is \
         narrowed by a label of nodes goes before the resource itself."),
    field("queues.factors[].resource", Text(Shared), "",
        "Name of a resource, such as nvidia.com/gpu@nvidia.com/gpu.product=NVIDIA-H100-80GB-HBM3. \
         Required."),
    field("queues.factors[].factor", Decimal(0, 1_000_000), "0",
        "Usage per core, GiB or device, and second."),

    field("evictions", Section, "",
        "How room is made for those who are entitled to it. What may be taken from whom is said by \
         the queues."),
    field("evictions.mode", Text(OneOf(&["Allowed", "ReportOnly", "Off"])), "Allowed",
        "The switch over all evictions. ReportOnly decides, counts and explains them without making \
         any; Off does not even look for them."),
    field("evictions.searchesPerCycle", Integer(1, 100_000), "64",
        "Gangs for which room is looked for in one cycle; the others wait for the next. It bounds \
         how long a cycle takes when many gangs wait."),
    field("evictions.vacateDeadline", Duration(SECOND, 60 * MINUTE), "30s",
        "How long victims may take to be gone beyond their own terminationGracePeriodSeconds. Then \
         they count as stuck, the plan is given up, and the gang for which room was made waits \
         like any other. Before, no second victim is taken in place of one that is stopping."),
    field("evictions.budgetPods", Integer(0, 1_000_000), "0",
        "How many pods may be evicted in the time of budgetWindow, in the whole cluster; 0: no \
         bound. A queue may have a budget of its own."),
    field("evictions.budgetWindow", Duration(SECOND, 24 * 60 * MINUTE), "10m",
        "The time of budgetPods. The budget fills evenly, and a full one admits one plan of any \
         size."),
    field("evictions.protectedFor", Duration(SECOND, 60 * MINUTE), "60s",
        "How long a pod that a disruption budget protected is not chosen again."),

    field("drains", Section, "",
        "Room kept free for gangs that are entitled to it and would otherwise wait for ever, as \
         smaller ones take each seat that falls vacant."),
    field("drains.after", Duration(0, 7 * 24 * 60 * MINUTE), "15m",
        "How long a gang waits before room is drained for it; 0s: no room is ever drained."),
    field("drains.for", Duration(MINUTE, 7 * 24 * 60 * MINUTE), "1h",
        "How long a drain lasts at most. Pods that are gone before its date, by their \
         activeDeadlineSeconds or the run limit of their queue, may run in the drained room. After \
         a drain that did not seat its gang the next is twice as far off."),
    field("drains.percent", Integer(1, 100), "25",
        "The part of the cluster's GPUs that all drains together may keep, in percent."),

    field("topology", Section, "",
        "The tree of domains by which gangs are placed: each goes to the smallest that holds it."),
    field("topology.levels", List(16),
        "[{nodeLabel: topology.kubernetes.io/region}, {nodeLabel: topology.kubernetes.io/zone}, \
         {nodeLabel: network.topology.nvidia.com/datacenter}, \
         {nodeLabel: network.topology.nvidia.com/core}, \
         {nodeLabel: network.topology.nvidia.com/spine}, \
         {nodeLabel: network.topology.nvidia.com/block}, \
         {nodeLabel: network.topology.nvidia.com/leaf}, \
         {nodeLabel: network.topology.nvidia.com/accelerator}, \
         {nodeLabel: nvidia.com/gpu.clique}]",
        "The levels, the outermost first. Below the last is always the node itself, by the name \
         kubernetes.io/hostname. A level of which no node has the label costs nothing; with no \
         levels gangs are placed node by node."),
    field("topology.levels[].nodeLabel", Text(LabelKey), "",
        "Key of the node label whose values are the domains of the level. Required."),
    field("topology.levels[].name", Text(Name), "\"\"",
        "What gangs may call the level, beside its label, as in `mss-scheduler.io/same: rack`. Empty: \
         the part of the label's key after the slash. The node itself is called node."),
    field("topology.fromObjects", Flag, "true",
        "Whether levels are added that Topology objects of Kueue (kueue.x-k8s.io) and of KAI \
         (kai.scheduler) name, where these kinds are installed; what is listed above keeps its \
         order. NodeResourceTopology objects and ResourceSlices of gpu.nvidia.com, which say where \
         the GPUs of a node are, are read or not with them."),

    field("architectures", List(16),
        "[{name: amd64, preference: 2}, {name: ppc64le, preference: 3}]",
        "Which processor architectures pods go to, and to which rather. It decides for all pods; \
         those that can run on one only say so by a node selector. The default is that of IBM \
         Spectrum Conductor."),
    field("architectures[].name", Text(Name), "",
        "An architecture, as the label kubernetes.io/arch of nodes has it: amd64, arm64, ppc64le, \
         s390x. Required, and unique."),
    field("architectures[].preference", Integer(0, 3), "2",
        "0: not used; 1: least preferred; 2: no preference, as those that are not listed; 3: most \
         preferred. How much it counts is the weight of the score ArchitecturePreference."),

    field("dedicatedNodes", Section, "",
        "Nodes that are for pods that ask for them."),
    field("dedicatedNodes.labelKey", Text(MaybeLabelKey), "\"\"",
        "Nodes with a label of this key, whatever its value, take only pods that name the key in \
         their node selector or required node affinity, or tolerate it as if it were a taint with \
         the effect NoSchedule. Empty: no node is dedicated."),

    field("gpuSharing", Section, "",
        "Parts of GPUs, which are given out of the devices that holder pods own: see \
         docs/gpu-sharing.md."),
    field("gpuSharing.holderNamespace", Text(Any), "\"\"",
        "The namespace in which pods with the label mss-scheduler.io/gpu-holder are holders; \
         tenants must not be able to make pods there. Empty: that of the lease."),

    field("dynamicResources", Section, "",
        "Devices that pods claim (dynamic resource allocation, resource.k8s.io/v1): see \
         docs/fair-share.md and docs/gpu-topology.md."),
    field("dynamicResources.enabled", Flag, "true",
        "Whether claims are read, given devices and counted, where the kinds are installed. Turned \
         off, a pod with spec.resourceClaims is refused."),
    field("dynamicResources.deviceClasses", List(256),
        "[{name: gpu.nvidia.com, resource: nvidia.com/gpu}]",
        "As what devices count in queues, by DeviceClass, where the class itself has no \
         spec.extendedResourceName. A class that is not listed counts as \
         deviceclass.resource.kubernetes.io/NAME."),
    field("dynamicResources.deviceClasses[].name", Text(Name), "",
        "Name of a DeviceClass. Required."),
    field("dynamicResources.deviceClasses[].resource", Text(Resource), "",
        "Name of a resource. Required."),

    field("quarantine", Section, "",
        "Nodes on which pods that this scheduler bound fail to start take no new pods for a while. \
         What runs there goes on."),
    field("quarantine.failures", Integer(0, 100), "3",
        "So many failures put a node in quarantine; 0: none ever is. A refusal by the kubelet \
         counts once per try of a gang or controller, a pod that does not start once per \
         namespace."),
    field("quarantine.window", Duration(MINUTE, 24 * 60 * MINUTE), "30m",
        "How long a failure counts, unless a pod starts on the node."),
    field("quarantine.startDeadline", Duration(0, 24 * 60 * MINUTE), "15m",
        "How long after its bind a pod of which nothing runs counts as failed. Pulling a large \
         image takes its time. 0s: it never does."),
    field("quarantine.for", Duration(SECOND, 24 * 60 * MINUTE), "10m",
        "How long the first quarantine of a node lasts. One that follows lasts twice as long."),
    field("quarantine.forMax", Duration(SECOND, 7 * 24 * 60 * MINUTE), "4h",
        "How long a quarantine lasts at most. Not below for."),
    field("quarantine.percent", Integer(1, 100), "10",
        "The part of the nodes that may be in quarantine at once, in percent; at least one may. \
         When more nodes fail, what is wrong is not the nodes."),

    field("limits", Section, "",
        "Bounds on everything that could grow with what others do."),
    field("limits.bindsInFlight", Integer(1, 1_024), "64",
        "Bind requests sent and not yet answered, and beside them as many evictions. 64 keep an \
         API server with a round trip of 30 ms busy at 2,000 binds a second; more only queue there."),
    field("limits.bindTimeout", Duration(SECOND, MINUTE), "10s",
        "How long one bind request may take. After it the outcome is unknown and the same request \
         is sent again; the node's room stays taken until there is an answer."),
    field("limits.partialBindDeadline", Duration(SECOND, 10 * MINUTE), "30s",
        "How long a gang may stay between zero and its minimum after some of its binds failed. \
         Then its bound members are deleted. Time without an API server does not count."),
    field("limits.eventsInFlight", Integer(1, 256), "16",
        "Events and pod conditions sent and not yet answered. An event costs the API server as \
         much as a bind, so this lane stands behind the binds."),
    field("limits.eventsQueued", Integer(1, 10_000_000), "65536",
        "Events waiting. Beyond it the oldest is dropped and counted. About 300 bytes each."),
    field("limits.gangMembersMax", Integer(1, 100_000), "10000",
        "Largest min-member accepted. A larger one is a contract error on those pods alone."),
    field("limits.annotationBytesMax", Integer(256, 262_144), "4096",
        "Bytes of mss-scheduler.io annotations read from one pod. More is a contract error."),
    field("limits.watchEventsQueued", Integer(16, 1_000_000), "8192",
        "Watch events between the connection and the scheduler. When full, reading pauses; \
         nothing is lost."),
    field("limits.leaseMargin", Duration(0, MINUTE), "2s",
        "No request leaves when the lease runs out within this time. Must be shorter than \
         leaseDuration less renewDeadline."),
    field("limits.shutdownGracePeriod", Duration(SECOND, 10 * MINUTE), "20s",
        "How long a terminating scheduler waits for requests in flight before it releases the \
         lease. Keep it below the pod's terminationGracePeriodSeconds."),

    field("NodeResourcesFitArgs", Section, "",
        "Arguments of NodeResourcesFit."),
    field("NodeResourcesFitArgs.scoringStrategy", Section, "",
        "How free resources turn into a score."),
    field("NodeResourcesFitArgs.scoringStrategy.type",
        Text(OneOf(&["LeastAllocated", "MostAllocated", "RequestedToCapacityRatio"])),
        "MostAllocated",
        "LeastAllocated spreads, MostAllocated packs, RequestedToCapacityRatio follows a shape. \
         (Upstream's default is LeastAllocated; GPU clusters lose room for gangs by spreading.)"),
    field("NodeResourcesFitArgs.scoringStrategy.resources", List(64),
        "[{name: cpu, weight: 1}, {name: memory, weight: 1}, {name: nvidia.com/gpu, weight: 5}]",
        "Resources that count, each with a weight. GPUs weigh most: they are what runs out."),
    field("NodeResourcesFitArgs.scoringStrategy.resources[].name", Text(Resource), "",
        "Name of a resource. Required."),
    field("NodeResourcesFitArgs.scoringStrategy.resources[].weight", Integer(1, 100), "1",
        "Factor of this resource in the mean."),
    field("NodeResourcesFitArgs.scoringStrategy.requestedToCapacityRatio", Section, "",
        "Read for type RequestedToCapacityRatio only."),
    field("NodeResourcesFitArgs.scoringStrategy.requestedToCapacityRatio.shape", List(101),
        "[{utilization: 0, score: 0}, {utilization: 100, score: 10}]",
        "Points of a line from utilization to score; utilization must rise from point to point."),
    field("NodeResourcesFitArgs.scoringStrategy.requestedToCapacityRatio.shape[].utilization",
        Integer(0, 100), "0",
        "Percent of the allocatable amount that is requested."),
    field("NodeResourcesFitArgs.scoringStrategy.requestedToCapacityRatio.shape[].score",
        Integer(0, 10), "0",
        "Score at this point."),

    field("NodeResourcesBalancedAllocationArgs", Section, "",
        "Arguments of NodeResourcesBalancedAllocation."),
    field("NodeResourcesBalancedAllocationArgs.resources", List(64),
        "[{name: cpu, weight: 1}, {name: memory, weight: 1}]",
        "Resources whose shares of the node should be alike."),
    field("NodeResourcesBalancedAllocationArgs.resources[].name", Text(Resource), "",
        "Name of a resource. Required."),
    field("NodeResourcesBalancedAllocationArgs.resources[].weight", Integer(1, 1), "1",
        "Must be 1, as upstream; the field exists so that upstream's files are understood."),
];
