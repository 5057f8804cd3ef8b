import { agentKeyStolen } from './agent-key-stolen.js';
import { databaseLeak } from './database-leak.js';
import { type Ground } from './ground.js';
import { natsTakeover } from './nats-takeover.js';
import { Play, type Findings, type Line } from './play.js';
import { registryTampered } from './registry-tampered.js';
import { tokenStolen } from './token-stolen.js';

interface Drill {
  /** What the attacker has to begin with. */
  readonly had: string;
  readonly play: (ground: Ground, play: Play) => Promise<void>;
}

/** In this order when all are played: each leaves the installation as the next one needs it. */
export const DRILLS: Readonly<Record<string, Drill>> = {
  'ims-database-leak': { had: 'a dump of every table of the four services', play: databaseLeak },
  'nats-takeover': { had: 'the broker: a user with all rights in its account IMS', play: natsTakeover },
  'registry-tampered': { had: 'the disks of the vendor’s registry and of the install’s', play: registryTampered },
  'token-stolen': { had: 'a pull token that its agent has not used yet', play: tokenStolen },
  'agent-key-stolen': { had: 'a copy of an install agent’s state directory', play: agentKeyStolen },
};

/** Plays one drill; `onLine` hears each line as it ends. Throws when something fails that is no refusal. */
export async function playDrill(
  name: string,
  ground: Ground,
  onLine: (line: Line) => void = () => undefined,
): Promise<Findings> {
  const drill = DRILLS[name];
  if (!drill) throw new Error(`there is no drill ${name}`);
  const play = new Play(name, drill.had, onLine);
  await drill.play(ground, play);
  return play.findings;
}
