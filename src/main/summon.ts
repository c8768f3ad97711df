/**
 * The summoner's composition root: `shoal summon CONFIG`. An authoritative name server whose names are versions of services; whoever asks for one gets it
 * booted. SIGTERM and SIGINT end this process, never a VM: what it summoned is found by the next one.
 */
import { serveMessages } from '../cache/route/dns-server.ts';
import { asShoalError, ShoalError } from '../model/errors.ts';
import { summonFleet } from '../summon/controller-fleet.ts';
import { answerSummon, SourceRates } from '../summon/dns.ts';
import { Summoner } from '../summon/summoner.ts';
import { closeOnSignal, log, readNeeded, runDaemon } from './daemon.ts';
import { parseSummonConfig } from './summon-config.ts';

const backoffMs = 1_000;
const retryMs = 2_000;

async function main(): Promise<void> {
  const path = process.argv[2];
  if (path === undefined) throw new ShoalError('USAGE', 'usage: summon CONFIG', { hint: 'Give the path of the configuration file.' });
  const { dns, rate, controller, services, ...limits } = parseSummonConfig(readNeeded(path, 'configuration'));
  const fleet = summonFleet({ ...controller, ca: readNeeded(controller.caFile, "controller's certificate"), policies: services });
  const shortestS = Math.min(limits.idleS, ...Object.values(services).map(({ idleS }) => idleS));
  const summoner = new Summoner({
    ...limits, fleet, backoffMs, graceMs: dns.ttlS * 1000 + 5_000, lookMs: Math.min(5_000, Math.max(200, (shortestS * 1000) / 4)), now: Date.now, log,
  });
  // Without the controller there is nothing to say; it is waited for.
  for (;;) {
    try {
      await summoner.open();
      break;
    } catch (error) {
      log(`the controller: ${asShoalError(error).message}`);
      await new Promise((resolve) => setTimeout(resolve, retryMs));
    }
  }
  const rates = new SourceRates(rate, Date.now);
  const server = await serveMessages(dns.host, dns.port, (message, client, overTcp) => answerSummon(message, client, overTcp, dns, summoner, rates));
  log(`summon: names of ${dns.name} on ${dns.host}:${server.port}`);
  closeOnSignal(() => Promise.allSettled([server.close(), summoner.close()]));
}

runDaemon(main);
