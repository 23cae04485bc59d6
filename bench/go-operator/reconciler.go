package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

type reconciler struct {
	client.Client // reads come from the manager's cache
	recorder      events.EventRecorder
	http          *http.Client
}

func newReconciler(m manager.Manager) *reconciler {
	// Every pod is asked once: a connection kept open is of no use.
	asking := &http.Client{
		Timeout: 120 * time.Second, Transport: &http.Transport{DisableKeepAlives: true},
	}
	return &reconciler{m.GetClient(), m.GetEventRecorder("go-operator"), asking}
}

func (r *reconciler) setUp(m manager.Manager, options controller.Options) error {
	toOwner := func(_ context.Context, pod client.Object) []reconcile.Request {
		if name := pod.GetLabels()[labelChatModel]; name != "" {
			key := types.NamespacedName{Namespace: pod.GetNamespace(), Name: name}
			return []reconcile.Request{{NamespacedName: key}}
		}
		return nil
	}
	return ctrl.NewControllerManagedBy(m).
		For(&ChatModel{}).
		Owns(&ChatModelRevision{}).Owns(&appsv1.Deployment{}).
		Owns(&corev1.Service{}).Owns(&corev1.ServiceAccount{}).
		Owns(&networkingv1.NetworkPolicy{}).
		Watches(&corev1.Pod{}, handler.EnqueueRequestsFromMapFunc(toOwner)).
		WithOptions(options).
		Complete(r)
}

func (r *reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	model := &ChatModel{}
	if err := r.Get(ctx, req.NamespacedName, model); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !model.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, nil
	}
	revision, err := r.makeRevision(ctx, model)
	if err != nil {
		return ctrl.Result{}, err
	}
	service, err := r.makeChildren(ctx, model, revision)
	if err != nil {
		return ctrl.Result{}, err
	}
	pods, ready, err := r.findPods(ctx, model, revision)
	if err != nil {
		return ctrl.Result{}, err
	}
	if len(ready) == 0 {
		text := "loading the model"
		return ctrl.Result{}, r.report(ctx, model, revision, false, pods, 0, "Starting", text)
	}
	if revision.Status.Verdict != "Verified" {
		if err := r.verify(ctx, model, revision, ready[0].Status.PodIP); err != nil {
			return ctrl.Result{}, err
		}
	}
	if wanted := selector(model, revision.Name); !maps.Equal(service.Spec.Selector, wanted) {
		service.Spec.Selector = wanted
		if err := r.Update(ctx, service); err != nil {
			return ctrl.Result{}, err
		}
	}
	text := fmt.Sprintf("revision %d serves with %d pods Ready", revision.Spec.Number, len(ready))
	return ctrl.Result{}, r.report(ctx, model, revision, true, pods, len(ready), "Serving", text)
}

func (r *reconciler) makeRevision(ctx context.Context, model *ChatModel) (*ChatModelRevision, error) {
	revision := &ChatModelRevision{}
	key := types.NamespacedName{Namespace: model.Namespace, Name: revisionName(model)}
	if err := r.Get(ctx, key, revision); !apierrors.IsNotFound(err) {
		return revision, err
	}
	class := &InstanceClass{}
	if err := r.Get(ctx, types.NamespacedName{Name: model.Spec.InstanceClassName}, class); err != nil {
		return nil, err
	}
	revision = buildRevision(model, class)
	return revision, r.Create(ctx, revision)
}

// makeChildren creates what is not there; the Secret, which is never read, before the Deployment.
func (r *reconciler) makeChildren(
	ctx context.Context, model *ChatModel, revision *ChatModelRevision,
) (*corev1.Service, error) {
	if err := r.createUnlessThere(ctx, buildServiceAccount(model)); err != nil {
		return nil, err
	}
	service := buildService(model)
	if err := r.createUnlessThere(ctx, service); err != nil {
		return nil, err
	}
	if err := r.createUnlessThere(ctx, buildNetworkPolicy(model)); err != nil {
		return nil, err
	}
	deployment := buildDeployment(model, revision)
	err := r.Get(ctx, client.ObjectKeyFromObject(deployment), &appsv1.Deployment{})
	if !apierrors.IsNotFound(err) {
		return service, err
	}
	if err := r.Create(ctx, buildSecret(model)); err != nil && !apierrors.IsAlreadyExists(err) {
		return nil, err
	}
	return service, r.Create(ctx, deployment)
}

// createUnlessThere leaves the live object in `object`.
func (r *reconciler) createUnlessThere(ctx context.Context, object client.Object) error {
	wanted := object.DeepCopyObject().(client.Object)
	err := r.Get(ctx, client.ObjectKeyFromObject(object), object)
	if !apierrors.IsNotFound(err) {
		return err
	}
	return r.Create(ctx, wanted)
}

func (r *reconciler) findPods(
	ctx context.Context, model *ChatModel, revision *ChatModelRevision,
) (count int, ready []corev1.Pod, err error) {
	pods := &corev1.PodList{}
	matching := client.MatchingLabels(selector(model, revision.Name))
	if err := r.List(ctx, pods, client.InNamespace(model.Namespace), matching); err != nil {
		return 0, nil, err
	}
	for _, pod := range pods.Items {
		for _, condition := range pod.Status.Conditions {
			if condition.Type == corev1.PodReady && condition.Status == corev1.ConditionTrue {
				ready = append(ready, pod)
			}
		}
	}
	return len(pods.Items), ready, nil
}

// verify asks a pod for a real answer and writes the verdict on the revision.
func (r *reconciler) verify(
	ctx context.Context, model *ChatModel, revision *ChatModelRevision, address string,
) error {
	url := fmt.Sprintf("http://%s:9090/verify", address)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, nil)
	if err != nil {
		return err
	}
	response, err := r.http.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	var answer struct {
		OK        bool    `json:"ok"`
		ChatModel string  `json:"chatModel"`
		Revision  string  `json:"revision"`
		Tokens    int     `json:"tokens"`
		Seconds   float64 `json:"seconds"`
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return err
	}
	if !answer.OK || answer.ChatModel != model.Name || answer.Revision != revision.Name {
		return fmt.Errorf("pod %s answers %+v", address, answer)
	}
	now := metav1.Now()
	revision.Status = ChatModelRevisionStatus{
		Verdict: "Verified", StartedAt: &revision.CreationTimestamp,
		AnsweredAt: &now, ServingAt: &now, VerifiedAt: &now,
		Verification: &Verification{Tokens: answer.Tokens, Seconds: answer.Seconds},
	}
	return r.Status().Update(ctx, revision)
}

// report writes the status when it differs, and an event when Ready's reason does.
func (r *reconciler) report(
	ctx context.Context, model *ChatModel, revision *ChatModelRevision,
	serves bool, pods, ready int, reason, message string,
) error {
	reference := &RevisionRef{revision.Name, revision.Spec.Number, revision.Spec.Source.Mode}
	before := model.DeepCopyObject().(*ChatModel).Status
	status := &model.Status
	status.ObservedGeneration = model.Generation
	status.Target = reference
	status.Replicas, status.ReadyReplicas = int32(pods), int32(ready)
	status.Pods = fmt.Sprintf("%d/%d", ready, model.Spec.Replicas)
	status.Endpoint = fmt.Sprintf("http://%s.%s.svc:8002", model.Name, model.Namespace)
	status.APIKeySecretName = model.Name + "-api-key"
	selected := noRevision
	if serves {
		selected, status.Serving = revision.Name, reference
	}
	status.Selector = labels.FormatLabels(selector(model, selected))
	set := func(kind string, holds bool) {
		value := metav1.ConditionFalse
		if holds {
			value = metav1.ConditionTrue
		}
		meta.SetStatusCondition(&status.Conditions, metav1.Condition{
			Type: kind, Status: value, Reason: reason, Message: message,
			ObservedGeneration: model.Generation,
		})
	}
	set("Ready", serves)
	set("Available", serves)
	set("Progressing", !serves)
	if equality.Semantic.DeepEqual(&before, status) {
		return nil
	}
	if err := r.Status().Update(ctx, model); err != nil {
		return err
	}
	last := meta.FindStatusCondition(before.Conditions, "Ready")
	if last == nil || last.Reason != reason {
		r.recorder.Eventf(model, nil, corev1.EventTypeNormal, reason, "Rollout", "%s", message)
	}
	return nil
}
