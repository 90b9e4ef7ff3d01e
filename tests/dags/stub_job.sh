#!/bin/sh
# A job as the cloud sees it: does what the next line of the plan says, and leaves the outcome that the real one would.
#   0 | 1 | 65 | 75   end with that exit code and its outcome       killed   end without an outcome
#   hang              never end                                     slow     end well, but after two seconds
#   refused           end well, without a promotion, and leave the outcome of an earlier release
#   decided:TIME      end well, with a promotion that was decided at that time
#   alarm:TIME        end well, without a promotion, and with an alarm that was raised at that time
#   needs_review      end well, with a winner that a person has to approve
#   completed:TIME    end well, without a promotion, and complete one of a killed run at that time
#   silent            end with exit code 0 and no outcome
# A plan that is used up says 0.
set -eu
plan=$1 outcomes=$2
exec 9> "$plan.lock"
flock 9 # jobs of two runs may begin at once; the lock of one that is killed is free again
said=$(sed -n 1p "$plan")
sed 1d "$plan" > "$plan.rest"
mv "$plan.rest" "$plan"
exec 9>&-
mkdir -p "$outcomes"
failed() {
    printf '{"decision": null, "reason": null, "version": null, "as_of": null, "difference": null, "report": null, "exit_code": %s, "error": "as planned", "retry": %s}' "$1" "$2"
}
case $said in
    hang) exec sleep 600 ;;
    killed) exit 137 ;;
    silent) exit 0 ;;
    slow) sleep 2 ;;
esac
decided=null
case $said in decided:*) decided="\"${said#decided:}\"" ;; esac
case $said in
    75) failed 75 true ;;
    1 | 65) failed "$said" false ;;
    refused) printf '{"decision": "refused", "reason": "no better", "version": null, "as_of": "2026-05-24T10:00:00Z", "difference": null, "report": "s3a://demo/report.html", "exit_code": 0, "error": null, "retry": false}' ;;
    alarm:*) printf '{"schema_version": 2, "decision": "no_decision", "reason": "31 of 40 frauds", "version": null, "as_of": "2026-05-24T10:00:00Z", "difference": null, "alarms": [{"name": "champion_too_old", "champion_version": 12, "text": "champion v12 is old; next: fraud-detection candidates", "raised_at": "%s"}], "report": "s3a://demo/report.html", "exit_code": 0, "error": null, "retry": false, "decided_at": "2026-05-24T10:05:00Z"}' "${said#alarm:}" ;;
    completed:*) printf '{"schema_version": 2, "decision": "no_decision", "reason": "31 of 40 frauds", "version": null, "as_of": "2026-05-24T10:00:00Z", "difference": null, "completed": [{"decision": "promoted", "reason": "every check passed", "version": 13, "as_of": "2026-05-24T08:00:00Z", "report": "s3a://demo/eight.html", "completed_at": "%s"}, {"decision": "refused", "reason": "no better", "version": null, "as_of": "2026-05-24T07:00:00Z", "report": "s3a://demo/seven.html", "completed_at": "%s"}], "report": "s3a://demo/report.html", "exit_code": 0, "error": null, "retry": false, "decided_at": "2026-05-24T10:05:00Z"}' "${said#completed:}" "${said#completed:}" ;;
    needs_review) printf '{"schema_version": 2, "decision": "needs_review", "reason": "average precision +0.029; it waits for approval until 2026-05-31 10:00: fraud-detection approve 2026-05-20", "version": null, "as_of": "2026-05-24T10:00:00Z", "difference": null, "alarms": [{"name": "champion_too_old", "champion_version": 12, "text": "champion v12 is old", "raised_at": "2026-05-01T00:00:00Z"}], "report": "s3a://demo/report.html", "exit_code": 0, "error": null, "retry": false, "decided_at": "2026-05-24T10:05:00Z"}' ;;
    *) printf '{"schema_version": 2, "decision": "promoted", "reason": "average precision +0.029 [+0.012, +0.046]; every check passed", "version": 13, "as_of": "2026-05-24T10:00:00Z", "difference": {"value": 0.029, "low": 0.012, "high": 0.046, "confidence": 0.95}, "checks": [{"name": "significance", "value": 4.1, "limit": 3.7, "passed": true}], "looks": [{"number": 3, "champion_version": 12, "root": 4.1, "passed": true}, {"number": 5, "champion_version": 12, "root": 0.4, "passed": false}], "report": "s3a://demo/report.html", "exit_code": 0, "error": null, "retry": false, "decided_at": %s}' "$decided" ;;
esac > "$outcomes/$JOB_NAME.json"
case $said in 1 | 65 | 75) exit "$said" ;; esac
