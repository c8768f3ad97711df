/** demo-report.html: the picture of a run and its numbers, in one file that needs nothing else. Pure. */
import { count, duration, kib, ms, plural } from '../format.ts';
import type { FleetResult } from './fleet.ts';
import { plotSvg, type PlotOptions, type Series } from './plot.ts';
import { known, times, type DemoSummary } from './summary.ts';

export interface ReportFacts {
  at: Date;
  xen: string;
  accelerator: string;
  /** Xen hosts that the VMs were spread over. */
  hosts: number;
  /** Of each of them. */
  hostMemoryKib: number;
  imageBytes: number;
  memoryKib: number;
  shoalVersion: string;
}

export function seriesOf(result: FleetResult, { ours, xl }: DemoSummary): Series[] {
  const line = (p50: number) => ({ y: p50, label: known(p50, (value) => `p50 ${ms(value)} ms`) });
  const shoal: Series = {
    label: 'shoal',
    shape: 'dot',
    points: result.boots.flatMap(({ running, ms: time }) => (time === undefined ? [] : [[running, time] as const])),
    line: line(ours.p50),
  };
  if (result.xl.length === 0) return [shoal];
  return [
    shoal,
    {
      label: 'xl create',
      shape: 'diamond',
      points: result.xl.map(({ running, ms: time }) => [running, time] as const),
      line: line(xl.p50),
    },
  ];
}

const numbers = ['no', 'one', 'two', 'three', 'four'];
const hostsIn = (n: number): string => `${numbers[n] ?? count(n)} Xen ${n === 1 ? 'host' : 'hosts'}`;

const plotWords = { xLabel: 'VMs already running', yLabel: 'request to first echo reply, ms' };

export function bootPlot(series: readonly Series[], scale: PlotOptions['scale']): string {
  return plotSvg({
    title: 'Time from the request to the first echo reply, against the number of VMs already running',
    ...plotWords,
    scale,
    series,
  });
}

const page = `
:root{color-scheme:light dark;--paper:#fff;--card:#f5f7f9;--ink:#1f2933;--soft:#64707d;--line:#e3e7eb;--good:#1668c7}
@media (prefers-color-scheme:dark){:root{--paper:#14191e;--card:#1c2329;--ink:#e6e9ec;--soft:#98a3ae;--line:#2c343c;
--good:#62a8f5}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1040px;padding:40px 24px 64px;background:var(--paper);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
h1{font-size:28px;line-height:1.25;margin:0 0 6px;letter-spacing:-.01em}h2{font-size:17px;margin:40px 0 10px}
p{margin:0 0 10px;max-width:72ch}.soft,footer{color:var(--soft)}footer{margin-top:40px;font-size:14px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(165px,1fr));gap:12px;margin:26px 0 30px}
.tile{background:var(--card);border-radius:10px;padding:14px 16px}
.tile b{display:block;font-size:25px;font-weight:650;letter-spacing:-.01em;white-space:nowrap}
.tile span{color:var(--soft);font-size:14px}
figure{margin:0}figure>svg{display:block;width:100%;height:auto}
.scale{display:flex;gap:4px;justify-content:flex-end;font-size:14px;color:var(--soft)}
.scale label{padding:3px 12px;border-radius:14px;cursor:pointer}
input.pick{position:absolute;opacity:0}
#log:checked~.scale label[for=log],#linear:checked~.scale label[for=linear]{background:var(--card);color:var(--ink)}
#log:focus-visible~.scale label[for=log],#linear:focus-visible~.scale label[for=linear]{outline:2px solid var(--good)}
#log:checked~figure.linear,#linear:checked~figure.log{display:none}
.wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:6px 22px 6px 0;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
th:first-child,td:first-child{text-align:left}
th{font-weight:500;color:var(--soft)}`;

const escaped = (text: string): string =>
  text.replace(/[&<>"]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[c]!);

export function reportHtml(result: FleetResult, s: DemoSummary, about: ReportFacts): string {
  const series = seriesOf(result, s);
  const tile = (value: string, what: string): string =>
    `<div class="tile"><b>${escaped(value)}</b><span>${escaped(what)}</span></div>`;
  const tiles = [
    tile(count(s.answered), `of ${count(s.asked)} VMs answered a ping from outside`),
    tile(
      known(s.ours.p50, (n) => `${ms(n)} ms`),
      'request to first echo reply, p50',
    ),
    ...(s.xl.count > 0 ? [tile(times(s.ratio), `faster than xl create (${ms(s.xl.p50)} ms)`)] : []),
    tile(
      known(s.growth, (n) => `${n.toFixed(2)}×`),
      'last VMs against the first, p50',
    ),
    tile(
      known(s.memoryKibPerVm, (n) => kib(Math.round(n))),
      `memory per VM; dom0 grew by ${known(s.dom0KibPerVm, (n) => kib(Math.round(n)))}`,
    ),
  ];
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>Shoal: ${count(s.created)} unikernels on ${hostsIn(about.hosts)}</title><style>${page.replace(/\n/g, '')}</style></head><body>
<h1>${count(s.created)} unikernels on ${hostsIn(about.hosts)}</h1>
<p class="soft">Each was asked of Shoal's controller by one request, placed by it, booted by Shoal's own toolstack, and pinged from outside of the hosts.</p>
<div class="tiles">${tiles.join('')}</div>
<input class="pick" type="radio" name="scale" id="log" checked><input class="pick" type="radio" name="scale" id="linear">
<div class="scale"><label for="log">logarithmic</label><label for="linear">linear</label></div>
<figure class="log">${bootPlot(series, 'log')}</figure>
<figure class="linear">${bootPlot(series, 'linear')}</figure>
<h2>Numbers</h2>
<div class="wide">${timesTable(result, s)}</div>
<h2>How it was measured</h2>
<p>All VMs are copies of one service. Each was asked for by a request of its own, which raised the service's count by one. The
clock starts just before that request is sent to the controller, and stops when the first ICMP echo reply of the new copy reaches a
process outside of the Xen hosts. One request at a time: the next is sent when the controller has said that the copy before runs.
VMs already running are those of the whole fleet: ${escaped(s.perHost.map(([host, vms]) => `${count(vms)} on ${host}`).join(', ') || 'none')} in the end.</p>
<p>xl, without a controller: the same image on the first host, beside that host's share of the fleet, with one network device on the same bridge, from the start of the command to its first echo
reply, less what an empty command takes on the way into dom0; each destroyed before the next.</p>
<p>Memory per VM is the difference in Xen's free memory on all hosts; dom0's growth is the difference in what its Linux calls available.
The guest itself has ${kib(about.memoryKib)}.</p>
<footer>${escaped(about.xen)} in QEMU (${escaped(about.accelerator)}), ${hostsIn(about.hosts)}, ${kib(about.hostMemoryKib)} of memory each ·
image of ${count(about.imageBytes)} bytes · Shoal ${escaped(about.shoalVersion)} ·
${about.at.toISOString().slice(0, 16).replace('T', ' ')} UTC · ${duration(s.totalS)} in all, ${duration(s.bootS)} of it booting</footer>
</body></html>
`;
}

const cells = (tag: string, texts: readonly string[]): string =>
  `<tr>${texts.map((text) => `<${tag}>${escaped(text)}</${tag}>`).join('')}</tr>`;

/** p50 of ours beside xl's at each number of running VMs at which xl was measured. */
function timesTable(result: FleetResult, s: DemoSummary): string {
  const rows = [['shoal', s.ours] as const, ...(s.xl.count > 0 ? [['xl create', s.xl] as const] : [])];
  const body = rows.map(([name, { count: n, p50, p99, max }]) =>
    cells('td', [name, known(p50, ms), known(p99, ms), known(max, ms), count(n)]),
  );
  const perCount = [...new Set(result.xl.map(({ running }) => running))].map((running) => {
    const xl = result.xl.filter((sample) => sample.running === running).map((sample) => ms(sample.ms));
    return cells('td', [`xl create, ${plural(running, 'VM')} running`, xl.join(', '), '', '', String(xl.length)]);
  });
  const head = cells('th', ['request to first echo reply, ms', 'p50', 'p99', 'max', 'VMs']);
  return `<table>${head}${body.join('')}${perCount.join('')}</table>`;
}
