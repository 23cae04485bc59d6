"""The rows of docs/incidents.md: what went wrong where this project comes from, and the proof here.

A proof is a test, `file::name` under tests/, or a film of tests/golden/rollouts. A row without one
has a reason; a row may have both, when a part of it is not shown yet.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Row:
    """One incident."""

    happened: str
    here: str
    proofs: tuple[str, ...] = ()
    missing: str = ""


INCIDENTS = {
    "I1": Row(
        "the model loaded within the first request; liveness failed, the pod restarted, again",
        "loads at start, beside the event loop; ready after a real generation",
        (
            "unit/runtime/test_scheduling.py::test_readiness_comes_after_load_and_warm_up",
            "unit/runtime/test_scheduling.py::test_nothing_is_answered_before_the_model_is_ready",
            "contract/test_incidents.py::test_starting_may_take_longer_than_dying_unnoticed",
        ),
    ),
    "I2": Row(
        "inference blocked the event loop; probes timed out, the pod was killed in its answer",
        "inference never runs on the event loop; probes are answered whatever the engine does",
        (
            "unit/runtime/test_conformance.py::test_every_probe_is_answered_while_the_engine_works",
            "unit/runtime/test_liveness.py::test_a_long_answer_and_a_full_queue_trip_no_probe",
            "unit/runtime/test_liveness.py"
            "::test_probes_are_answered_while_four_times_as_many_ask_as_there_is_room_for",
            "unit/runtime/test_health.py"
            "::test_long_prompts_are_made_into_tokens_one_at_a_time_beside_the_event_loop",
        ),
    ),
    "I3": Row(
        "liveness of 120 s, 20 times: a dead pod was noticed after 40 minutes",
        "a pod whose engine is dead or stuck is restarted within a minute of being known",
        ("contract/test_incidents.py::test_a_dead_pod_is_noticed_within_a_minute",),
    ),
    "I4": Row(
        "5 to 15 seconds were promised, 6 minutes and more measured",
        "deadlines; no traffic before a first short answer; a published number has its command",
        (
            "unit/runtime/test_scheduling.py"
            "::test_a_request_past_its_deadline_ends_and_stops_the_engine",
            "unit/runtime/test_openai.py"
            "::test_an_answer_past_its_deadline_ends_its_stream_with_the_reason",
            "golden/rollouts/a-model-that-is-never-ready-is-given-up.txt",
        ),
        missing="a pair of model and class that is slow, but not too slow for the warm-up's 24"
        " tokens, is not refused: the speed is measured by nobody before traffic",
    ),
    "I5": Row(
        "answers were cut to 128 tokens to stay under a load balancer's time-out",
        "limits are fields of spec; an answer that was cut says so; answers can be streamed",
        (
            "unit/runtime/test_conformance.py::test_an_answer_at_its_limit_says_so",
            "unit/runtime/test_conformance.py::test_what_is_streamed_is_the_whole_answer",
            "unit/runtime/test_openai.py::test_pieces_come_while_the_answer_is_being_made",
            "unit/runtime/test_torch.py::test_an_answer_that_is_cut_says_so",
            "unit/runtime/test_torch.py::test_thinking_that_is_cut_still_gets_an_answer",
            "contract/test_contract.py::test_what_the_schema_allows_the_runtime_takes",
        ),
    ),
    "I6": Row(
        "the ephemeral cache filled the node; the pod was evicted",
        "the volume has room for the model and a limit; an eviction is no sign against the model",
        (
            "unit/operator/test_desired.py::test_the_volume_has_room_for_the_model",
            "unit/runtime/test_full_volume.py::test_too_large_a_model_is_refused_with_both_numbers",
            "fake_nodes/test_workload_faults.py::test_an_evicted_pod_is_no_sign_against_its_model",
        ),
    ),
    "I7": Row(
        "a claim stayed pending for a missing driver while the scheduler spoke of CPU and memory",
        "a condition names the claim's own cause",
        (
            "node/test_claims.py::test_a_storage_class_that_is_missing_is_named",
            "node/test_claims.py::test_a_claim_that_waits_for_its_first_pod_is_no_fault",
            "unit/operator/test_staging.py"
            "::test_a_claim_too_small_is_waited_for_with_both_numbers_and_no_job",
        ),
    ),
    "I8": Row(
        "a node could not hold old and new pod together; the rollout stood still",
        "the old pods make room, or it is said why not; a bad candidate gives the room back",
        (
            "node/test_rollouts.py"
            "::test_on_a_full_node_the_old_one_makes_room_and_a_bad_one_gives_it_back",
            "golden/rollouts/no-room-and-surge-waits.txt",
            "golden/rollouts/no-room-and-a-bad-candidate-restores-the-old.txt",
        ),
    ),
    "I9": Row(
        "4 GiB were set where 9 GiB were needed",
        "memory is estimated from the weights; what cannot fit is refused before a pod",
        (
            "golden/rollouts/a-model-too-large-for-its-class-is-refused-before-a-pod.txt",
            "node/test_serving.py::test_a_model_too_big_for_its_class_is_killed_and_refused",
        ),
    ),
    "I10": Row(
        "the hub's token was a build argument, and stayed in the image's history",
        "a build secret; in pods a file, where the hub is called and nowhere else",
        (
            "contract/test_incidents.py::test_no_token_is_an_argument_of_a_build",
            "node/test_caches.py::test_the_serving_container_has_no_token_and_is_offline",
            "unit/operator/test_desired.py"
            "::test_the_token_is_mounted_where_the_hub_is_called_and_nowhere_else",
        ),
    ),
    "I11": Row(
        "a folder that was not empty counted as a model: a half download was loaded",
        "complete or absent: every file hashed, a marker last, interrupted downloads gone on with",
        (
            "unit/runtime/test_staging.py::test_a_kill_leaves_no_model_and_the_next_try_goes_on",
            "unit/runtime/test_staging.py::test_a_folder_without_its_marker_is_replaced",
            "unit/runtime/test_staging.py::test_a_changed_model_is_never_loaded",
        ),
    ),
    "I12": Row(
        "a lower temperature was advised for speed",
        "not repeated in our pages",
        ("contract/test_incidents.py::test_no_page_advises_a_temperature_for_speed",),
    ),
    "I13": Row(
        "the documented MRN-001 did not exist in the data, which has P000123",
        "a demo patient has both spellings",
        ("unit/runtime/test_patients.py::test_a_demo_patient_has_two_numbers",),
    ),
    "D1": Row(
        "the record number was logged, and the result of scrubbing never used",
        "nothing of a patient is given to a log; looked for over every outcome, with planted leaks",
        (
            "unit/runtime/test_canary.py::test_no_outcome_leaves_a_trace",
            "unit/runtime/test_canary.py::test_a_planted_leak_is_found_where_it_is",
            "unit/runtime/test_random_bodies.py::test_ten_thousand_random_bodies_leave_no_trace",
        ),
    ),
    "D2": Row(
        "503 was promised for a dead patient API, and 500 answered",
        "503",
        (
            "unit/runtime/test_canary.py::test_no_outcome_leaves_a_trace",
            "unit/runtime/test_patients.py"
            "::test_anything_but_a_summary_means_that_the_source_is_down",
        ),
    ),
    "D3": Row(
        "/health answered something else than its page said",
        "the description is made from the code, and answers are checked by it",
        (
            "unit/runtime/test_schema.py::test_no_case_that_fits_the_description_fails",
            "unit/runtime/test_serve.py::test_probes_of_the_origin_need_no_key",
        ),
    ),
    "D4": Row(
        "/triage built the prompt twice",
        "one pure function, called once in the story of a request",
        (
            "unit/runtime/test_origin_defects.py"
            "::test_a_question_is_made_into_one_prompt_and_asked_once",
        ),
    ),
    "D5": Row(
        "one mode still ran on the event loop after another had got its thread",
        "one interface for all engines, one scheduler above it, one set of cases for all",
        (
            "unit/runtime/test_conformance.py::test_every_probe_is_answered_while_the_engine_works",
            "unit/runtime/test_openvino.py::test_the_event_loop_runs_while_a_long_prompt_is_read",
        ),
    ),
    "D6": Row(
        "an autoscaler on a volume of one node could not scale",
        "replicas share the claim on its node; an autoscaler scales the ChatModel",
        (
            "node/test_claims.py::test_two_replicas_share_the_claim_on_one_node",
            "control_plane/test_kubectl.py::test_a_horizontal_pod_autoscaler_scales_a_chatmodel",
        ),
    ),
    "D7": Row(
        "a plan file of the infrastructure tool was committed",
        "no such file, and no key, is in the tree",
        ("contract/test_incidents.py::test_no_state_and_no_secret_lies_in_the_tree",),
    ),
    "D8": Row(
        "the chat log was called non-blocking, and every answer waited for it",
        "a bounded queue beside the answers",
        ("unit/runtime/test_chat_log_served.py::test_no_answer_waits_for_the_chat_log",),
    ),
    "D9": Row(
        "every web page might read the answers (allow_origins *)",
        "a list of pages, empty by default",
        ("unit/runtime/test_browsers.py::test_other_pages_are_told_nothing",),
    ),
}
