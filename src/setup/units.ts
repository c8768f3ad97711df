/** The systemd units of a host, as text. Pure. They stand for the lab's supervisor: each program is started again however it ended. */
import { openFiles, programFolder } from './dom0.ts';

interface Unit {
  description: string;
  after: readonly string[];
  wants?: readonly string[];
  command: string;
}

/** Endings are without count; the socket, the state of the switch and the pipes of captures stay when a program is started again. */
const unitText = ({ description, after, wants = [], command }: Unit): string => `# Written by \`shoal host setup\`.
[Unit]
Description=${description}
After=${after.join(' ')}
${wants.length === 0 ? '' : `Wants=${wants.join(' ')}\n`}ConditionPathExists=/proc/xen/capabilities
StartLimitIntervalSec=0

[Service]
ExecStart=${command}
Restart=always
RestartSec=1
LimitNOFILE=${openFiles}
TasksMax=infinity
RuntimeDirectory=shoal
RuntimeDirectoryMode=0700
RuntimeDirectoryPreserve=yes

[Install]
WantedBy=multi-user.target
`;

/** Names of the units, in the order in which they start. */
export const unitNames = ['shoal-switch.service', 'shoal-agent.service'] as const;

export const units: Readonly<Record<(typeof unitNames)[number], string>> = {
  'shoal-switch.service': unitText({
    description: "Shoal's network switch",
    after: ['xen.service', 'network.target'],
    command: `/${programFolder}/shoal-switch --foreground`,
  }),
  'shoal-agent.service': unitText({
    description: "Shoal's host agent",
    after: ['xen.service', 'network-online.target', 'shoal-switch.service'],
    wants: ['network-online.target', 'shoal-switch.service'],
    command: `/${programFolder}/node /${programFolder}/agent.cjs /etc/shoal/agent.json`,
  }),
};
