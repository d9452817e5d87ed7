package main

import (
	"context"
	"fmt"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/sets"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/apis/config"
	"k8s.io/kubernetes/pkg/scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/defaultbinder"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/feature"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/nodeaffinity"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/nodename"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/nodeports"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/noderesources"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/nodeunschedulable"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/queuesort"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/tainttoleration"
	frameworkruntime "k8s.io/kubernetes/pkg/scheduler/framework/runtime"
)

// current lets plugins, which are built once, see the nodes of the case at hand.
type current struct{ fwk.SharedLister }

// profiles are upstream's plugins in their default order, once per strategy of NodeResourcesFit.
type profiles struct {
	current    *current
	byStrategy map[string]framework.Framework
}

// resources are what scores look at, with weights that differ, so that mixing them up shows.
var resources = []config.ResourceSpec{
	{Name: "cpu", Weight: 1}, {Name: "memory", Weight: 2}, {Name: "nvidia.com/gpu", Weight: 5},
}

func newProfiles(ctx context.Context) (*profiles, error) {
	p := &profiles{current: &current{}, byStrategy: map[string]framework.Framework{}}
	for _, strategy := range []config.ScoringStrategyType{
		config.LeastAllocated, config.MostAllocated, config.RequestedToCapacityRatio,
	} {
		profile, err := newProfile(ctx, strategy, p.current)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", strategy, err)
		}
		p.byStrategy[string(strategy)] = profile
	}
	return p, nil
}

func newProfile(
	ctx context.Context, strategy config.ScoringStrategyType, lister fwk.SharedLister,
) (framework.Framework, error) {
	gates := feature.NewSchedulerFeaturesFromGates(utilfeature.DefaultFeatureGate)
	// devices of dynamic resource allocation need objects that no case has
	gates.EnableDRAExtendedResource = false
	// off by default in 1.37; a cluster that turns it on expects it to be honoured
	gates.EnableTaintTolerationComparisonOperators = true
	registry := frameworkruntime.Registry{
		nodeunschedulable.Name:               frameworkruntime.FactoryAdapter(gates, nodeunschedulable.New),
		nodename.Name:                        frameworkruntime.FactoryAdapter(gates, nodename.New),
		tainttoleration.Name:                 frameworkruntime.FactoryAdapter(gates, tainttoleration.New),
		nodeaffinity.Name:                    frameworkruntime.FactoryAdapter(gates, nodeaffinity.New),
		nodeports.Name:                       frameworkruntime.FactoryAdapter(gates, nodeports.New),
		noderesources.Name:                   frameworkruntime.FactoryAdapter(gates, noderesources.NewFit),
		noderesources.BalancedAllocationName: frameworkruntime.FactoryAdapter(gates, noderesources.NewBalancedAllocation),
		queuesort.Name:                       queuesort.New,
		defaultbinder.Name:                   defaultbinder.New,
	}
	plugins := &config.Plugins{}
	for _, name := range []string{
		nodeunschedulable.Name, nodename.Name, tainttoleration.Name, nodeaffinity.Name,
		nodeports.Name, noderesources.Name, noderesources.BalancedAllocationName,
		queuesort.Name, defaultbinder.Name,
	} {
		plugin := config.Plugin{Name: name, Weight: 1}
		plugins.MultiPoint.Enabled = append(plugins.MultiPoint.Enabled, plugin)
	}
	fit := &config.ScoringStrategy{Type: strategy, Resources: resources}
	if strategy == config.RequestedToCapacityRatio {
		fit.RequestedToCapacityRatio = &config.RequestedToCapacityRatioParam{
			Shape: []config.UtilizationShapePoint{
				{Utilization: 0, Score: 0}, {Utilization: 40, Score: 9}, {Utilization: 80, Score: 4},
			},
		}
	}
	balanced := []config.ResourceSpec{{Name: "cpu", Weight: 1}, {Name: "memory", Weight: 1}}
	if strategy == config.RequestedToCapacityRatio {
		for _, name := range []string{"ephemeral-storage", "nvidia.com/gpu"} {
			balanced = append(balanced, config.ResourceSpec{Name: name, Weight: 1})
		}
	}
	return frameworkruntime.NewFramework(ctx, registry, &config.KubeSchedulerProfile{
		SchedulerName: "mss-scheduler",
		Plugins:       plugins,
		PluginConfig: []config.PluginConfig{
			{Name: noderesources.Name, Args: &config.NodeResourcesFitArgs{ScoringStrategy: fit}},
			{
				Name: noderesources.BalancedAllocationName,
				Args: &config.NodeResourcesBalancedAllocationArgs{Resources: balanced},
			},
			{Name: nodeaffinity.Name, Args: &config.NodeAffinityArgs{}},
		},
	}, frameworkruntime.WithSnapshotSharedLister(lister))
}

// absent is upstream's status of nodes that a prefilter leaves out.
func absent(by sets.Set[string]) *fwk.Status {
	message := fmt.Sprintf("node(s) didn't satisfy plugin(s) %v", sets.List(by))
	return fwk.NewStatus(fwk.UnschedulableAndUnresolvable, message)
}

// requestsOf counts as upstream counts a pod on a node.
func requestsOf(pod *v1.Pod) (Requests, error) {
	info, err := framework.NewPodInfo(pod)
	if err != nil {
		return Requests{}, err
	}
	counted := info.CalculateResource()
	amounts := map[string]int64{}
	set := func(name string, amount int64) {
		if amount != 0 {
			amounts[name] = amount
		}
	}
	set("cpu", counted.Resource.GetMilliCPU())
	set("memory", counted.Resource.GetMemory())
	set("ephemeral-storage", counted.Resource.GetEphemeralStorage())
	for name, amount := range counted.Resource.GetScalarResources() {
		set(string(name), amount)
	}
	return Requests{Amounts: amounts, NonZero: [2]int64{counted.Non0CPU, counted.Non0Mem}}, nil
}

// roundPod does what the API server does to every quantity before it is stored.
func roundPod(pod *v1.Pod) {
	round := func(list v1.ResourceList) {
		for name, quantity := range list {
			quantity.RoundUp(resource.Milli)
			// stored in canonical form; a text like 1.5Gi, which is not, is held by a pointer that
			// upstream's PodRequests shares with the pod and adds to
			list[name] = resource.MustParse(quantity.String())
		}
	}
	for _, containers := range [][]v1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for _, container := range containers {
			round(container.Resources.Requests)
		}
	}
	round(pod.Spec.Overhead)
	if pod.Spec.Resources != nil {
		round(pod.Spec.Resources.Requests)
	}
	round(pod.Status.AllocatedResources)
	if pod.Status.Resources != nil {
		round(pod.Status.Resources.Requests)
	}
	for _, statuses := range [][]v1.ContainerStatus{
		pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses,
	} {
		for _, status := range statuses {
			round(status.AllocatedResources)
			if status.Resources != nil {
				round(status.Resources.Requests)
			}
		}
	}
}
