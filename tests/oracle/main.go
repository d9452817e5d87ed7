// Answers, with upstream's own scheduler code, what Kubernetes would do with a pod.
//
// Reads one JSON case a line from stdin, {"pod", "nodes", "pods"}, where "pods" run on the nodes,
// and writes one JSON answer a line to stdout: what each pod requests, what the filters say to each
// node, how the scores rank the nodes that pass, and the text of the error if none does.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/go-logr/logr"
	v1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/backend/cache"
	"k8s.io/kubernetes/pkg/scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/metrics"
)

// Case is a line of input.
type Case struct {
	Pod   *v1.Pod    `json:"pod"`
	Nodes []*v1.Node `json:"nodes"`
	Pods  []*v1.Pod  `json:"pods"`
}

// Requests are in milli-CPU for cpu and in base units otherwise; zero amounts are left out.
type Requests struct {
	Amounts map[string]int64 `json:"amounts"`
	NonZero [2]int64         `json:"non_zero"`
}

// NodeAnswer is what the filters say to one node; no reasons: it may run there.
type NodeAnswer struct {
	Reasons      []string `json:"reasons"`
	Unresolvable bool     `json:"unresolvable"`
}

// Score is that of one plugin for one node that passes, as the plugin gave it and normalised.
type Score struct {
	Node       string `json:"node"`
	Plugin     string `json:"plugin"`
	Raw        int64  `json:"raw"`
	Normalised int64  `json:"normalised"`
}

// Answer is a line of output.
type Answer struct {
	Pod       Requests              `json:"pod"`
	Pods      []Requests            `json:"pods"`
	PreFilter string                `json:"pre_filter"`
	Nodes     map[string]NodeAnswer `json:"nodes"`
	Scores    map[string][]Score    `json:"scores"`
	Error     string                `json:"error"`
}

func main() {
	// the plugins log labels that are not numbers; the answer says all there is to say
	klog.SetLogger(logr.Discard())
	metrics.Register()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "oracle:", err)
		os.Exit(1)
	}
}

func run() error {
	ctx := context.Background()
	profiles, err := newProfiles(ctx)
	if err != nil {
		return fmt.Errorf("building the plugins: %w", err)
	}
	lines := bufio.NewReaderSize(os.Stdin, 1<<20)
	out := bufio.NewWriter(os.Stdout)
	encoder := json.NewEncoder(out)
	decoder := json.NewDecoder(lines)
	for number := 1; ; number++ {
		var c Case
		if err := decoder.Decode(&c); err == io.EOF {
			return out.Flush()
		} else if err != nil {
			return fmt.Errorf("reading case %d: %w", number, err)
		}
		answer, err := profiles.answer(ctx, &c)
		if err != nil {
			return fmt.Errorf("case %d: %w", number, err)
		}
		if err := encoder.Encode(answer); err != nil {
			return err
		}
	}
}

func (p *profiles) answer(ctx context.Context, c *Case) (*Answer, error) {
	for _, pod := range append([]*v1.Pod{c.Pod}, c.Pods...) {
		roundPod(pod)
	}
	answer := &Answer{Nodes: map[string]NodeAnswer{}, Scores: map[string][]Score{}}
	var err error
	if answer.Pod, err = requestsOf(c.Pod); err != nil {
		return nil, err
	}
	for _, pod := range c.Pods {
		requests, err := requestsOf(pod)
		if err != nil {
			return nil, err
		}
		answer.Pods = append(answer.Pods, requests)
	}
	snapshot := cache.NewSnapshot(c.Pods, c.Nodes)
	p.current.SharedLister = snapshot
	for strategy, profile := range p.byStrategy {
		if err := p.ask(ctx, strategy, profile, c.Pod, answer); err != nil {
			return nil, err
		}
	}
	return answer, nil
}

// ask follows upstream's Scheduler.findNodesThatFitPod and prioritizeNodes.
func (p *profiles) ask(
	ctx context.Context, strategy string, profile framework.Framework, pod *v1.Pod, answer *Answer,
) error {
	all, err := p.current.NodeInfos().List()
	if err != nil {
		return err
	}
	state := framework.NewCycleState()
	diagnosis := framework.Diagnosis{NodeToStatus: framework.NewDefaultNodeToStatus()}
	wanted, status, by := profile.RunPreFilterPlugins(ctx, state, pod)
	var feasible []fwk.NodeInfo
	if status.IsSuccess() {
		if !wanted.AllNodes() {
			diagnosis.NodeToStatus.SetAbsentNodesStatus(absent(by))
		}
		for _, node := range all {
			name := node.Node().Name
			status := profile.RunFilterPlugins(ctx, state, pod, node)
			if !status.IsSuccess() && !status.IsRejected() {
				return fmt.Errorf("filters on node %s: %w", name, status.AsError())
			}
			said := NodeAnswer{Reasons: []string{}}
			if !status.IsSuccess() {
				said.Reasons = status.Reasons()
				said.Unresolvable = status.Code() == fwk.UnschedulableAndUnresolvable
			}
			answer.Nodes[name] = said
			if !wanted.AllNodes() && !wanted.NodeNames.Has(name) {
				continue
			}
			if status.IsSuccess() {
				feasible = append(feasible, node)
			} else {
				diagnosis.NodeToStatus.Set(name, status)
			}
		}
	} else if status.IsRejected() {
		diagnosis.NodeToStatus.SetAbsentNodesStatus(status)
		diagnosis.PreFilterMsg = status.Message()
		answer.PreFilter = status.Message()
	} else {
		return fmt.Errorf("prefilters: %w", status.AsError())
	}
	if len(feasible) == 0 {
		answer.Error = (&framework.FitError{
			Pod: pod, NumAllNodes: len(all), Diagnosis: diagnosis,
		}).Error()
		return nil
	}
	return score(ctx, strategy, profile, state, pod, feasible, answer)
}

func score(
	ctx context.Context, strategy string, profile framework.Framework, state fwk.CycleState,
	pod *v1.Pod, feasible []fwk.NodeInfo, answer *Answer,
) error {
	if status := profile.RunPreScorePlugins(ctx, state, pod, feasible); !status.IsSuccess() {
		return fmt.Errorf("prescores: %w", status.AsError())
	}
	scores, status := profile.RunScorePlugins(ctx, state, pod, feasible)
	if !status.IsSuccess() {
		return fmt.Errorf("scores: %w", status.AsError())
	}
	for _, node := range scores {
		raw := map[string]int64{}
		for _, score := range node.RawScores {
			raw[score.Name] = score.Score
		}
		for _, score := range node.Scores {
			answer.Scores[strategy] = append(answer.Scores[strategy], Score{
				Node: node.Name, Plugin: score.Name, Raw: raw[score.Name], Normalised: score.Score,
			})
		}
	}
	return nil
}
