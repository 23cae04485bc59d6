package main

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

var groupVersion = schema.GroupVersion{Group: "carepath.ai", Version: "v1alpha1"}

func addTypes(s *runtime.Scheme) error {
	s.AddKnownTypes(groupVersion, &ChatModel{}, &ChatModelList{}, &ChatModelRevision{},
		&ChatModelRevisionList{}, &InstanceClass{}, &InstanceClassList{})
	metav1.AddToGroupVersion(s, groupVersion)
	return nil
}

// Source is what a revision serves; here it is the whole of a ChatModel's spec but the replicas.
type Source struct {
	Mode              string         `json:"mode"`
	InstanceClassName string         `json:"instanceClassName,omitempty"`
	Generation        Generation     `json:"generation"`
	PatientContext    PatientContext `json:"patientContext"`
	Auth              Auth           `json:"auth"`
}

type Generation struct {
	MaxNewTokens      int     `json:"maxNewTokens"`
	MaxThinkingTokens int     `json:"maxThinkingTokens"`
	Temperature       float64 `json:"temperature"`
	TopP              float64 `json:"topP"`
	TopK              int     `json:"topK"`
}

type PatientContext struct {
	Source string `json:"source"`
}

type Auth struct {
	Mode string `json:"mode"`
}

type ChatModelSpec struct {
	Source   `json:",inline"`
	Replicas int32 `json:"replicas"`
}

type RevisionRef struct {
	Revision string `json:"revision"`
	Number   int    `json:"number"`
	Mode     string `json:"mode"`
}

type ChatModelStatus struct {
	ObservedGeneration int64              `json:"observedGeneration,omitempty"`
	Conditions         []metav1.Condition `json:"conditions,omitempty"`
	Serving            *RevisionRef       `json:"serving,omitempty"`
	Target             *RevisionRef       `json:"target,omitempty"`
	Replicas           int32              `json:"replicas"`
	ReadyReplicas      int32              `json:"readyReplicas"`
	Pods               string             `json:"pods,omitempty"`
	Selector           string             `json:"selector,omitempty"`
	Endpoint           string             `json:"endpoint,omitempty"`
	APIKeySecretName   string             `json:"apiKeySecretName,omitempty"`
}

type ChatModel struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              ChatModelSpec   `json:"spec,omitempty"`
	Status            ChatModelStatus `json:"status,omitempty"`
}

func (in *ChatModel) DeepCopyObject() runtime.Object {
	out := *in
	out.ObjectMeta = *in.ObjectMeta.DeepCopy()
	out.Status.Conditions = slices.Clone(in.Status.Conditions)
	out.Status.Serving = clone(in.Status.Serving)
	out.Status.Target = clone(in.Status.Target)
	return &out
}

type InstanceClassSpec struct {
	Resources    corev1.ResourceRequirements `json:"resources"`
	NodeSelector map[string]string           `json:"nodeSelector,omitempty"`
	Tolerations  []corev1.Toleration         `json:"tolerations,omitempty"`
}

type InstanceClass struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              InstanceClassSpec `json:"spec,omitempty"`
}

func (in *InstanceClassSpec) deepCopy() InstanceClassSpec {
	return InstanceClassSpec{
		Resources:    *in.Resources.DeepCopy(),
		NodeSelector: maps.Clone(in.NodeSelector),
		Tolerations:  slices.Clone(in.Tolerations),
	}
}

func (in *InstanceClass) DeepCopyObject() runtime.Object {
	return &InstanceClass{in.TypeMeta, *in.ObjectMeta.DeepCopy(), in.Spec.deepCopy()}
}

type ChatModelRevisionSpec struct {
	ChatModelName string                  `json:"chatModelName"`
	Number        int                     `json:"number"`
	Source        Source                  `json:"source"`
	InstanceClass *InstanceClassSpec      `json:"instanceClass,omitempty"`
	Engine        string                  `json:"engine,omitempty"`
	Template      *corev1.PodTemplateSpec `json:"template,omitempty"`
}

type Verification struct {
	Failures int     `json:"failures"`
	Tokens   int     `json:"tokens"`
	Seconds  float64 `json:"seconds"`
}

type ChatModelRevisionStatus struct {
	Verdict      string        `json:"verdict,omitempty"`
	StartedAt    *metav1.Time  `json:"startedAt,omitempty"`
	AnsweredAt   *metav1.Time  `json:"answeredAt,omitempty"`
	ServingAt    *metav1.Time  `json:"servingAt,omitempty"`
	VerifiedAt   *metav1.Time  `json:"verifiedAt,omitempty"`
	Verification *Verification `json:"verification,omitempty"`
}

type ChatModelRevision struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              ChatModelRevisionSpec   `json:"spec,omitempty"`
	Status            ChatModelRevisionStatus `json:"status,omitempty"`
}

func (in *ChatModelRevision) DeepCopyObject() runtime.Object {
	out := *in
	out.ObjectMeta = *in.ObjectMeta.DeepCopy()
	if in.Spec.InstanceClass != nil {
		class := in.Spec.InstanceClass.deepCopy()
		out.Spec.InstanceClass = &class
	}
	out.Spec.Template = in.Spec.Template.DeepCopy()
	out.Status.StartedAt = in.Status.StartedAt.DeepCopy()
	out.Status.AnsweredAt = in.Status.AnsweredAt.DeepCopy()
	out.Status.ServingAt = in.Status.ServingAt.DeepCopy()
	out.Status.VerifiedAt = in.Status.VerifiedAt.DeepCopy()
	out.Status.Verification = clone(in.Status.Verification)
	return &out
}

type list[T any] struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []T `json:"items"`
}

type (
	ChatModelList         struct{ list[ChatModel] }
	ChatModelRevisionList struct{ list[ChatModelRevision] }
	InstanceClassList     struct{ list[InstanceClass] }
)

// The cache copies single objects; whole lists of our kinds are never copied, only read.
func (in *ChatModelList) DeepCopyObject() runtime.Object         { out := *in; return &out }
func (in *ChatModelRevisionList) DeepCopyObject() runtime.Object { out := *in; return &out }
func (in *InstanceClassList) DeepCopyObject() runtime.Object     { out := *in; return &out }

func clone[T any](in *T) *T {
	if in == nil {
		return nil
	}
	out := *in
	return &out
}
