/** docs/xenapi.md out of the data model. `npx tsx src/main/document-xenapi.ts` writes it; a test compares. */
import type { Call, ClassModel, Field } from './model/grammar.ts';
import { classes } from './model/model.ts';

const intro = `# XenAPI of the host agent

Generated from \`src/xenapi/model/\`; a test keeps it so.

Every host agent serves this API over TLS: JSON-RPC 2.0 at \`/jsonrpc\`, XML-RPC at \`/xmlrpc\`, \`/RPC2\` and \`/\`. Any XenAPI client can use it, for
example the npm package \`xen-api\` or Python's XenAPI module. The user is \`root\`.

- The first parameter of every call but \`session.login_with_password\` and \`system.listMethods\` is the session. It is left out below.
- A failed call is HTTP 200 with a list of strings, the code first: \`error.message\` and \`error.data\` in JSON-RPC, \`ErrorDescription\` in XML-RPC. XenAPI's own
  codes carry XenAPI's parameters; ours carry message, hint and JSON data (docs/errors.md). A request that is no call has JSON-RPC's own negative code.
- A request has at most 1 MiB; an image at most 64 MiB.
- Names of VMs are unique on a host (\`NAME_IN_USE\`), unlike XenAPI's.
- Lists that grow with the fleet and can be derived are left out (host.resident_VMs, network.VIFs).
- One operation at a time works on a VM; another one is refused with \`OTHER_OPERATION_IN_PROGRESS\`. \`hard_shutdown\`, \`hard_reboot\` and the plugin's
  \`destroy\` stop what is under way first.
- A guest that powers off by itself is halted. One that crashes is halted, with its last console lines (at most 2 KiB) in \`other_config.last_crash\` and
  the time in \`other_config.last_crash_at\`.

Classes marked "listed" also have \`get_all\`, \`get_all_records\`, \`get_record(self)\`, \`get_by_uuid(uuid)\`, those with a name \`get_by_name_label(label)\`, and a
getter for each field. A field marked rw has \`set_FIELD(self, value)\`; a map marked rw has \`add_to_FIELD(self, key, value)\` and \`remove_from_FIELD(self, key)\` too.
A field marked fixed has the same value in every record. Calls marked async have a form \`Async.CLASS.CALL\` that returns a task.
`;

const plugin = `## The plugin "shoal"

\`host.call_plugin(host, "shoal", fn, args)\`; \`args\` is a map of strings, the result a JSON text.

| fn | args | result |
| --- | --- | --- |
| \`launch\` | \`spec\`: JSON, see below | \`{"vms": [VM…], "error"?: {code, message, hint, data}}\` |
| \`launch-each\` | \`specs\`: JSON list of \`{name, image, memoryKib, args?, vifs?: [{network, ip?, also?, lockingMode?}], otherConfig?}\` | \`{"results": [{name, vm?: VM, error?: {code, message, hint, data}}]}\`, in the same order |
| \`held\` | \`names\`: JSON list | \`{"held": [names]}\`: those of them that a VM has, or that a launch under way may still take |
| \`stop\` | \`vms\`: JSON list of uuids, or \`all\`; \`force\`: \`true\` ends them at once; \`timeoutMs\`: how long to wait for a guest, 10,000 by default | \`{"done": n, "failed": [{uuid, code, message, hint, data}]}\` |
| \`destroy\` | \`vms\` | as \`stop\`; running ones are ended first |
| \`list\` | \`columns\`: JSON list of some of \`uuid\`, \`name\`, \`state\`, \`domid\`, \`memoryKib\`, \`addresses\`, \`lockingModes\`, \`image\`, \`args\`, all by default; \`names\`: JSON list of names or uuids, all VMs by default | \`{"token", "columns", "rows", "texts"}\`, see below |
| \`console\` | \`vm\`: uuid; \`cursor\`: of the answer before, 0 at first | \`{"text", "cursor", "live"}\`; \`live\` is false for what a crashed guest left |
| \`console-write\` | \`vm\`, \`text\` | \`{"bytes"}\`: how many the guest's ring took |
| \`vif\` | \`vm\`, \`handle\` (0 by default) | \`{"rxFrames", "rxBytes", "txFrames", "txBytes", "rxDropped", "txDropped"}\` of a vif on the switch; rx is what the guest received |
| \`move-address\` | \`moves\`: list of \`{"from"?, "to", "ip", "drainMs"}\` | \`{"failed": [{"index", "code", "message", "hint", "data"}]}\`; see below |
| \`release-address\` | \`releases\`: list of \`{"vm", "ip", "drainMs"}\` | the same |
| \`hold-address\` | \`network\` (the host's first by default), \`ip\`, \`ms\` (at most 60,000; 0: no longer) | \`{"heldMs"}\`; see below |
| \`address-traffic\` | \`network\`, \`ips\`: list | \`{"traffic": [{"frames", "bytes", "idleMs", "drains", "held", "waiting"} or null]}\`: TCP and UDP, both ways; null where nobody has it |
| \`capture\` | \`vm\`, \`handle\` (0 by default) | \`{"capture"}\`: a name; see below |
| \`migrate\` | \`vm\`, \`dest\`: what host.migrate_receive of the target gave; \`live\`: "true"; \`networks\`: JSON map, that host's network by the name of ours; \`ip\` | \`{"addresses", "bytes", "passes", "connections", "totalMs", "downtimeMs", "predicted"}\` |
| \`migrate-plan\` | \`vm\`, \`url\` of the target's agent; \`live\`, \`afreshMs\`: what a fresh start takes, \`rttMs\`: round trip of whoever uses the VM as it moves | \`{"bytes", "totalMs", "downtimeMs", "rttMs", "bandwidthBps", "afreshMs", "advice", "migrations"}\` |
| \`migrate-resolve\` | \`vm\`, \`where\`: "here" or "there", of a migration that is in doubt | \`{}\` |
| \`bury\` | \`vm\`, suspended | \`{"uuid", "name", "addresses"}\` of its tombstone: a VM of the same image without its words that has the addresses of its first vif, and answers with RST |
| \`unbury\` | \`vm\` that was buried, or \`ip\` of the tombstone | \`{"removed"}\`; the VM, if it is still there, has its addresses again |
| \`neighbours\` | \`urls\`: agents to measure from now on, every minute | a list of \`{"url", "rttMs", "measuredMs", "migrations"}\` |
| \`capture-read\` | \`capture\`; \`waitMs\`: how long to wait for frames, at most 5,000, 0 by default | \`{"data", "frames", "dropped", "ended"}\` |
| \`capture-end\` | \`capture\` | \`{}\` |
| \`events\` | \`token\` ("" for all there is), \`timeoutS\`: how long to wait for a change; \`holdMs\`: while several VMs start, one answer in so long | \`{"token", "events": [{id, timestamp, class, operation, ref, snapshot?}]}\`, as event.from gives them of VMs, VIFs, networks and the host; snapshots of VMs and VIFs have only what says what and where they are |
| \`images\` | | \`[{"digest", "fileBytes", "addedMs", "vms"}]\`; \`vms\` is how many use it |
| \`fetch-image\` | \`order\`: JSON \`{digest, sizeBytes, sources: [{url, fingerprint, from?} or {delta, from}], timeoutMs}\`, see docs/formats/distribution.md | \`{"digest", "how", "source", "bytes", "failures"}\`; \`how\` is \`had\`, \`delta\` or \`whole\` |
| \`offer-image\` | \`digest\` | \`{"path", "sizeBytes"}\`: what another host can fetch it by from this one, for 15 minutes |
| \`shells\` | one of: nothing; \`prepare\`: JSON \`{"image", "memoryKib", "network", "count"}\`; \`drain\`: \`true\`; \`most\`: a number | see below |
| \`facts\` | | \`{"xen", "freeKib", "totalKib", "cpuCount", "domains", "vms", "store": {"requests", "changes"} or null, "switch": {"vifs", "frames", "bytes", "turns", "copies", "dropped", "memoryKib"} or null, "agent": {"version", "rssKib", "heapUsedKib", "uptimeS"}}\` |

\`launch\` creates and starts VMs in one call. Its spec: \`name\` for one VM, or \`prefix\` and \`count\` (and \`first\`, 1 by default) for prefix-1, prefix-2, …;
\`image\` (digest), \`memoryKib\`; optional: \`network\` (by default the host's first; "" for none), \`ip\` (with \`name\` only) or \`ips\` (a list, with \`prefix\` only), else addresses are assigned, \`args\`,
\`disks\` (\`[{"disk", "readonly"}]\`, by name or uuid; the vifs are netback's then), \`backend\` (\`switch\` or \`netback\`; by default what the network prefers and the image can), \`rateKbit\` (what it may send; needs the switch),
\`lockingMode\` (as VIF.locking_mode, of all its vifs), \`vifs\` (\`[{"network", "ip"?}]\`, several vifs in place of \`network\` and \`ip\`; an address with \`name\` only),
\`concurrency\` (at most what the host allows). A VM of the result: \`{"ref", "uuid", "name", "domid", "ip", "mac", "startMs", "steps": {"create", "build", "register",
"attachVif", "seal", "unpause"}, "ms"}\`; the times are milliseconds, \`startMs\` counts from the beginning of the call.

With \`clone\`, the uuid of a running VM, instead of image, memory, args and backend they are copies of that VM: it suspends itself for the moment in which its memory
is copied, and each copy goes on from there under its own name and address. The original must be on the switch, and has no disks.

Everything that can be checked is checked before the first start, and then the call fails and nothing has changed. When a later VM cannot be started, those
before it stay and are in \`vms\`, and \`error\` is \`LAUNCH_INCOMPLETE\` with \`data\` \`{"started", "notStarted": [names], "reason": {code, message, hint, data}}\`.

\`launch-each\` is for VMs that differ: each is launched for itself, and one that fails keeps none of the others from starting. Their names are held from the
beginning of the call until each has started or failed; a second call for one of them gets \`NAME_IN_USE\` meanwhile. Entries of \`otherConfig\` whose key begins with
\`shoal_\` stay with the domain even when the host loses its disk. \`also\` of a vif lists addresses that the guest has configured from its start
and that are not its own yet: they may be moved to it. Only on the switch.

\`list\` is a table of the VMs: each row has the cells of \`columns\`. A cell of \`state\` (running, paused, halted), \`image\` or \`args\` is a place in \`texts\`, which
has each text once; \`domid\` is 0 while halted; \`addresses\` and \`lockingModes\` have blanks between. Names that no VM has are passed over. \`token\` is for \`event.from\`: what changed
since the table was begun.

\`shells\` is about domains built beforehand: a start that finds one of its shape (image, memory, network) has only to give it its identity. The host sizes
them by demand. Without arguments the result is \`[{"image", "memoryKib", "ready", "wanted"}]\`. \`prepare\` makes them until there are \`count\`, as far as the
limit and the host's memory allow (\`network\` by default the host's first; "" for none), and answers \`{"ready"}\`; they stay for one to two minutes unless they are
started. \`drain\` ends all, until further starts ask for some again: \`{"ended"}\`. \`most\` sets how many of all shapes together there may be, 0 for none, until
the agent ends: \`{"most", "before"}\`. \`store\` of \`facts\` counts what the agent has asked of the store since its start.

\`move-address\` takes an address from one running VM and gives it to another of the same host and network: connections that the old one has stay with it until they
end, or for \`drainMs\`; all that begin later reach the new one. Both must be on the switch. The new VM's \`ipv4_allowed\` begins with it afterwards. Done before is well, so
a call whose answer was lost is repeated. Without \`from\` an address that nobody on the host has is given; \`release-address\` takes one off the host.

\`hold-address\` has the host answer ARP for an address that no VM has yet, and keep the first frames for it (64, those that begin a connection before others). The VM that is
launched with it, or gets it by a move, is given them as soon as it is up.

\`capture\` copies the frames of a vif on the switch, both ways. Each \`capture-read\` gives the next part of a file in pcap's format (base64), how many frames there
were so far, and how many were dropped because nobody read them in time: the host keeps at most 4 MiB. With \`ended\` there is no more, and the capture is forgotten. It
ends with \`capture-end\` (what there is can still be read), with the VM, or when nobody reads it for ten seconds. A vif has one capture at a time, a host 16.

Results that grow with the fleet (\`list\`, \`launch\`, \`get_all_records\`, \`event.from\`) are made while they are sent, so that they hold up no other client: each
part is true when it is made. An event of an object that went meanwhile is left out, and its deletion comes with the next call.

## Images and consoles over HTTP

\`PUT /image/<digest>?session_id=<ref>\` with the ELF file as body puts an image into the host's store; the digest is \`sha256:\` and 64 hex digits, and the bytes must
match it. \`task_id=<ref>\` names a task that then says how the upload ended. \`DELETE\` takes it out again, unless a VM uses it. \`GET /console?session_id=<ref>&uuid=<of
the console>&cursor=<n>\` gives console output as text; the header \`X-Console-Cursor\` has the next cursor. Failures have a status of 4xx or 5xx and the body
\`{code, message, hint, data}\`.
`;

/** The whole page. */
export function documentation(): string {
  const parts = [intro];
  for (const [name, model] of Object.entries(classes) as [string, ClassModel][]) {
    parts.push(`## ${name}${model.listed ? ' (listed)' : ''}\n\n${model.doc}\n`);
    const calls = Object.entries(model.calls);
    if (calls.length > 0) parts.push(['| call | result | |', '| --- | --- | --- |', ...calls.map(callRow)].join('\n') + '\n');
    const fields = Object.entries(model.fields);
    if (fields.length > 0)
      parts.push(['| field | type | | |', '| --- | --- | --- | --- |', ...fields.map(fieldRow)].join('\n') + '\n');
  }
  parts.push(plugin);
  return parts.join('\n');
}

function callRow([name, { params, result, doc, async, open }]: [string, Call]): string {
  const list = params
    .map((p) => `${p.name}: ${p.type}${p.otherwise === undefined ? '' : ` = ${JSON.stringify(p.otherwise)}`}`)
    .join(', ');
  const notes = [...(async === true ? ['Async.'] : []), ...(open === true ? ['Needs no session.'] : [])];
  return `| \`${name}(${list})\` | ${result} | ${[doc, ...notes].join(' ')} |`;
}

function fieldRow([name, { type, access, doc, value }]: [string, Field]): string {
  const shown = access === 'fixed' ? `fixed: \`${JSON.stringify(value)}\`` : access;
  return `| \`${name}\` | ${type} | ${shown} | ${doc} |`;
}
