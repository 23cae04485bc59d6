// A plain controller-runtime operator that does the same work per mock ChatModel as ours, as a
// yardstick for bench/operators.py. README.md says what it omits.
package main

import (
	"flag"
	"os"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

func main() {
	tuned := flag.Bool("tuned", false, "16 workers, no client rate limit, a cache of what is ours")
	flag.Parse()
	ctrl.SetLogger(zap.New())
	if err := run(*tuned); err != nil {
		ctrl.Log.Error(err, "ended")
		os.Exit(1)
	}
}

func run(tuned bool) error {
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		return err
	}
	if err := addTypes(scheme); err != nil {
		return err
	}
	config, err := ctrl.GetConfig()
	if err != nil {
		return err
	}
	options := ctrl.Options{Scheme: scheme, Metrics: server.Options{BindAddress: "0"}}
	settings := controller.Options{}
	if tuned {
		settings.MaxConcurrentReconciles = 16
		config.QPS = -1 // since controller-runtime 0.21 the default, too
		options.Cache = ownCache()
	}
	manager, err := ctrl.NewManager(config, options)
	if err != nil {
		return err
	}
	if err := newReconciler(manager).setUp(manager, settings); err != nil {
		return err
	}
	return manager.Start(ctrl.SetupSignalHandler())
}

// ownCache holds children only when they are labelled as ours, and no managed fields.
func ownCache() cache.Options {
	ours, _ := labels.Parse(labelChatModel)
	byLabel := cache.ByObject{Label: ours}
	return cache.Options{
		DefaultTransform: cache.TransformStripManagedFields(),
		ByObject: map[client.Object]cache.ByObject{
			&appsv1.Deployment{}: byLabel, &corev1.Pod{}: byLabel,
			&corev1.Service{}: byLabel, &corev1.ServiceAccount{}: byLabel,
			&networkingv1.NetworkPolicy{}: byLabel,
		},
	}
}
