package main

import (
	"crypto/rand"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"
)

const (
	labelChatModel = "carepath.ai/chatmodel"
	labelRevision  = "carepath.ai/revision"
	labelRole      = "carepath.ai/role"
	noRevision     = "none"
)

//go:embed pod.yaml
var podYAML []byte

var podTemplate = func() (template corev1.PodTemplateSpec) {
	if err := yaml.UnmarshalStrict(podYAML, &template); err != nil {
		panic(err)
	}
	return template
}()

func childMeta(model *ChatModel, name string, extra map[string]string) metav1.ObjectMeta {
	labels := map[string]string{
		"app.kubernetes.io/name":       "chatmodel",
		"app.kubernetes.io/instance":   model.Name,
		"app.kubernetes.io/managed-by": "go-operator",
		labelChatModel:                 model.Name,
	}
	maps.Copy(labels, extra)
	owner := metav1.NewControllerRef(model, groupVersion.WithKind("ChatModel"))
	owner.BlockOwnerDeletion = new(bool)
	return metav1.ObjectMeta{
		Name: name, Namespace: model.Namespace, Labels: labels,
		OwnerReferences: []metav1.OwnerReference{*owner},
	}
}

func selector(model *ChatModel, revision string) map[string]string {
	return map[string]string{
		labelChatModel: model.Name, labelRevision: revision, labelRole: "serve",
	}
}

func revisionName(model *ChatModel) string {
	text, _ := json.Marshal(model.Spec.Source)
	return fmt.Sprintf("%s-%x", model.Name, sha256.Sum256(text))[:len(model.Name)+9]
}

func buildRevision(model *ChatModel, class *InstanceClass) *ChatModelRevision {
	name := revisionName(model)
	return &ChatModelRevision{
		ObjectMeta: childMeta(model, name, map[string]string{labelRevision: name}),
		Spec: ChatModelRevisionSpec{
			ChatModelName: model.Name,
			Number:        1,
			Source:        model.Spec.Source,
			InstanceClass: &class.Spec,
			Engine:        "Mock",
			Template:      buildTemplate(model, name, class),
		},
	}
}

func buildServiceAccount(model *ChatModel) *corev1.ServiceAccount {
	return &corev1.ServiceAccount{
		ObjectMeta:                   childMeta(model, model.Name, nil),
		AutomountServiceAccountToken: new(bool),
	}
}

func buildService(model *ChatModel) *corev1.Service {
	port := corev1.ServicePort{
		Name: "http", Port: 8002, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromString("http"),
	}
	return &corev1.Service{
		ObjectMeta: childMeta(model, model.Name, nil),
		Spec: corev1.ServiceSpec{
			Selector: selector(model, noRevision), Ports: []corev1.ServicePort{port},
		},
	}
}

func buildNetworkPolicy(model *ChatModel) *networkingv1.NetworkPolicy {
	ports := func(protocol corev1.Protocol, numbers ...int32) (list []networkingv1.NetworkPolicyPort) {
		for _, number := range numbers {
			port := intstr.FromInt32(number)
			list = append(list, networkingv1.NetworkPolicyPort{Port: &port, Protocol: &protocol})
		}
		return list
	}
	operators := networkingv1.NetworkPolicyPeer{NamespaceSelector: &metav1.LabelSelector{
		MatchLabels: map[string]string{"kubernetes.io/metadata.name": "chatmodel-system"},
	}}
	return &networkingv1.NetworkPolicy{
		ObjectMeta: childMeta(model, model.Name, nil),
		Spec: networkingv1.NetworkPolicySpec{
			PodSelector: metav1.LabelSelector{
				MatchLabels: map[string]string{labelChatModel: model.Name, labelRole: "serve"},
			},
			PolicyTypes: []networkingv1.PolicyType{
				networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress,
			},
			Ingress: []networkingv1.NetworkPolicyIngressRule{
				{Ports: ports(corev1.ProtocolTCP, 8002)},
				{
					From:  []networkingv1.NetworkPolicyPeer{operators},
					Ports: ports(corev1.ProtocolTCP, 9090),
				},
			},
			Egress: []networkingv1.NetworkPolicyEgressRule{
				{Ports: append(ports(corev1.ProtocolUDP, 53), ports(corev1.ProtocolTCP, 53)...)},
			},
		},
	}
}

func buildSecret(model *ChatModel) *corev1.Secret {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails: crypto/rand ends the program instead
	return &corev1.Secret{
		ObjectMeta: childMeta(model, model.Name+"-api-key", nil),
		Type:       corev1.SecretTypeOpaque,
		StringData: map[string]string{"api-key": base64.RawURLEncoding.EncodeToString(key)},
	}
}

func buildDeployment(model *ChatModel, revision *ChatModelRevision) *appsv1.Deployment {
	labels := map[string]string{labelRevision: revision.Name, labelRole: "serve"}
	one, zero := intstr.FromInt32(1), intstr.FromInt32(0)
	return &appsv1.Deployment{
		ObjectMeta: childMeta(model, revision.Name, labels),
		Spec: appsv1.DeploymentSpec{
			Replicas:             &model.Spec.Replicas,
			RevisionHistoryLimit: new(int32),
			Selector:             &metav1.LabelSelector{MatchLabels: selector(model, revision.Name)},
			Strategy: appsv1.DeploymentStrategy{
				Type:          appsv1.RollingUpdateDeploymentStrategyType,
				RollingUpdate: &appsv1.RollingUpdateDeployment{MaxSurge: &one, MaxUnavailable: &zero},
			},
			Template: *revision.Spec.Template,
		},
	}
}

// buildTemplate fills in what differs between two pods; the rest is in pod.yaml.
func buildTemplate(model *ChatModel, revision string, class *InstanceClass) *corev1.PodTemplateSpec {
	template := podTemplate.DeepCopy()
	labels := map[string]string{labelRevision: revision, labelRole: "serve"}
	template.Labels = childMeta(model, "", labels).Labels
	template.Spec.ServiceAccountName = model.Name
	template.Spec.NodeSelector = class.Spec.NodeSelector
	template.Spec.Tolerations = class.Spec.Tolerations
	template.Spec.Volumes[1].Secret.SecretName = model.Name + "-api-key"
	template.Spec.Containers[0].Resources = class.Spec.Resources
	config, _ := json.Marshal(map[string]any{
		"command": "serve", "chatModel": model.Name, "revision": revision, "mode": model.Spec.Mode,
		"engine": "Mock", "modelID": nil, "commit": nil, "modelDir": nil,
		"generation": model.Spec.Generation, "patientContext": model.Spec.PatientContext,
		"auth": map[string]string{
			"mode": model.Spec.Auth.Mode, "keysDir": "/var/run/secrets/chatmodel/api-keys",
		},
		"limits": map[string]int{
			"maxConcurrentRequests": 8, "maxQueuedRequests": 32, "requestDeadlineSeconds": 600,
			"drainSeconds": 10, "maxConnectionAgeSeconds": 5,
		},
	})
	template.Spec.Containers[0].Env[0].Value = string(config)
	return template
}
