/** The data model: the host, its pool of one, its networks. */
import { call, fixed, optional, param, quick, ro, rw, type ClassModel } from './grammar.ts';

export const pool = {
  doc: 'Every host is a pool of its own.',
  listed: true,
  fields: {
    uuid: ro('string', ''),
    name_label: ro('string', "The host's name."),
    name_description: fixed('string', '', ''),
    master: ro('ref host', 'The host.'),
    default_SR: ro('ref SR', 'The one there is.'),
    suspend_image_SR: fixed('ref SR', 'OpaqueRef:NULL', ''),
    crash_dump_SR: fixed('ref SR', 'OpaqueRef:NULL', ''),
    other_config: rw('map', 'Anything, up to 8 KiB; forgotten when the agent ends.'),
    ha_enabled: fixed('bool', false, ''),
    tags: fixed('strings', [], ''),
    restrictions: fixed('map', {}, ''),
    allowed_operations: fixed('strings', [], ''),
    current_operations: fixed('map', {}, ''),
  },
  calls: {},
} as const satisfies ClassModel;

export const host = {
  doc: 'The Xen host of this agent. Lists that grow with the fleet (resident_VMs) are left out: VM.resident_on says the same.',
  listed: true,
  fields: {
    uuid: ro('string', ''),
    name_label: ro('string', ''),
    name_description: fixed('string', '', ''),
    memory_overhead: fixed('int', 0, ''),
    allowed_operations: fixed('strings', [], ''),
    current_operations: fixed('map', {}, ''),
    API_version_major: fixed('int', 2, ''),
    API_version_minor: fixed('int', 21, ''),
    API_version_vendor: fixed('string', 'Shoal', ''),
    API_version_vendor_implementation: fixed('map', {}, ''),
    enabled: fixed('bool', true, ''),
    software_version: ro('map', 'product_brand, product_version, build (the beginning of the digest of the agent\'s program), xen.'),
    other_config: fixed('map', {}, ''),
    capabilities: fixed('strings', ['xen-3.0-x86_64'], ''),
    cpu_configuration: fixed('map', {}, ''),
    cpu_info: ro('map', 'cpu_count.'),
    hostname: ro('string', ''),
    address: ro('string', ''),
    metrics: ro('ref host_metrics', ''),
    PIFs: fixed('refs PIF', [], ''),
    PBDs: fixed('refs PBD', [], ''),
    license_params: fixed('map', {}, ''),
    edition: fixed('string', 'free', ''),
    tags: fixed('strings', [], ''),
  },
  calls: {
    call_plugin: call(
      [param('host', 'ref host'), param('plugin', 'string'), param('fn', 'string'), param('args', 'map')],
      'string',
      'Calls a function of the plugin "shoal"; arguments and result are JSON texts. See below.',
    ),
    get_servertime: quick([param('host', 'ref host')], 'datetime', "The host's clock."),
    migrate_receive: call(
      [param('host', 'ref host'), optional('network', 'string', ''), optional('options', 'map', {})],
      'map',
      'A ticket for one VM to come here, for VM.migrate_send at its host; good for ten minutes. `options.fingerprint`: the SHA-256 of the certificate of the ' +
        "VM's host (facts of the plugin has it). `network` is not used: the VM's vifs go to networks of the same name, or as `vif_map` has it.",
    ),
    compute_free_memory: call([param('host', 'ref host')], 'int', 'Bytes Xen has free now.'),
  },
} as const satisfies ClassModel;

export const host_metrics = {
  doc: 'Memory of the host, as Xen says.',
  listed: true,
  fields: {
    uuid: ro('string', ''),
    memory_total: ro('int', 'Bytes.'),
    memory_free: ro('int', 'Bytes.'),
    live: fixed('bool', true, ''),
    last_updated: ro('datetime', ''),
    other_config: fixed('map', {}, ''),
  },
  calls: {},
} as const satisfies ClassModel;

export const network = {
  doc: "A network for VIFs, out of the agent's configuration. The list of VIFs is left out: VIF.network says the same.",
  listed: true,
  fields: {
    uuid: ro('string', ''),
    name_label: ro('string', ''),
    name_description: fixed('string', '', ''),
    allowed_operations: fixed('strings', [], ''),
    current_operations: fixed('map', {}, ''),
    PIFs: fixed('refs PIF', [], ''),
    MTU: fixed('int', 1500, ''),
    other_config: ro('map', 'cidr, gateway, first, last where the host assigns addresses.'),
    bridge: ro('string', ''),
    managed: fixed('bool', true, ''),
    tags: fixed('strings', [], ''),
    default_locking_mode: fixed('string', 'unlocked', ''),
    purpose: fixed('strings', [], ''),
  },
  calls: {},
} as const satisfies ClassModel;
