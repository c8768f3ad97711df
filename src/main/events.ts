/**
 * The event router's composition root: `node --import tsx events.ts CONFIG`. It boots, steers and takes away the caches of events through the
 * controller, sends viewers to them, and answers tenants. SIGTERM and SIGINT end this process, never an event.
 */
import { serveApi } from '../cache/event/api.ts';
import { httpScraper } from '../cache/event/caches.ts';
import { Events } from '../cache/event/events.ts';
import { controllerFleet } from '../cache/event/fleet-port.ts';
import { serveViewers } from '../cache/event/viewers.ts';
import { serveDns } from '../cache/route/dns-server.ts';
import { placeOf } from '../cache/route/place.ts';
import { ShoalError } from '../model/errors.ts';
import { closeOnSignal, log, readNeeded, runDaemon } from './daemon.ts';
import { parseEventsConfig } from './events-config.ts';
import { lockFolder } from './lock.ts';

async function main(): Promise<void> {
  const path = process.argv[2];
  if (path === undefined) throw new ShoalError('USAGE', 'usage: events CONFIG', { hint: 'Give the path of the configuration file.' });
  const config = parseEventsConfig(readNeeded(path, 'configuration'));
  const tls = config.tls === undefined ? undefined : { cert: readNeeded(config.tls.certFile, 'certificate'), key: readNeeded(config.tls.keyFile, 'key') };
  lockFolder(config.stateDir, 'events.pid');
  const { controller, ports, dns, places } = config;
  const fleet = controllerFleet({ url: controller.url, ca: readNeeded(controller.caFile, "controller's certificate"), tokenFile: controller.tokenFile });
  const scraper = httpScraper();
  let viewersUrl = config.viewers.url ?? '';
  const events = await Events.open({
    fleet,
    scraper,
    image: config.image,
    capacity: config.capacity,
    scale: config.scale,
    ports,
    quota: config.quota,
    denied: config.denied,
    stateFolder: config.stateDir,
    endpoint: ({ address }) => ({
      url: `http://${address}${ports.viewers === 80 ? '' : `:${ports.viewers}`}`,
      metricsUrl: `http://${address}:${ports.admin}/metrics`,
    }),
    viewersUrl: () => viewersUrl,
    zone: dns?.name,
    now: Date.now,
    log,
  });
  const viewers = await serveViewers({ host: config.viewers.host, port: config.viewers.port, events, places, now: Date.now });
  if (viewersUrl === '') viewersUrl = `http://${config.viewers.host}:${viewers.port}`;
  const api = await serveApi({ ...config.api, tls, events, fleet, log });
  const names =
    dns === undefined
      ? undefined
      : await serveDns(dns.host, dns.port, dns, (tenant, event, client) => events.get(tenant, event)?.route(event, placeOf(client, places)).map(({ address }) => address));
  log(`events: ready on ${config.api.host}:${api.port}, viewers on ${config.viewers.host}:${viewers.port}${names === undefined ? '' : `, names on port ${names.port}`}`);
  closeOnSignal(async () => {
    await Promise.allSettled([viewers.close(), api.close(), names?.close()]);
    await events.close();
  });
}

runDaemon(main);
