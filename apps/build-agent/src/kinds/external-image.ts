import { ImsError, type JsonObject } from '#contracts';
import { copyFrom, type Descriptor } from '#oci';
import { type BuildContext, type KindBuilder, type PushTarget } from '../kind.js';
import { describeImage, parseImage, type ImageName, type OutsideRegistries } from './outside.js';

/** A copy of an image that others host, by digest, index and all: what they delete or replace later is of no effect. */
export class ExternalImage implements KindBuilder {
  constructor(private readonly outside: OutsideRegistries) {}

  async build({ step }: BuildContext): Promise<JsonObject> {
    const image = imageOf(step.statement.spec.image);
    const digest = await this.outside.digestOf(image, step.signal);
    step.log('info', `${describeImage(image)} is ${digest}`);
    return { digest };
  }

  async push({ step }: BuildContext, target: PushTarget): Promise<Descriptor> {
    const image = imageOf(step.statement.spec.image);
    const digest = step.outputOf('build')?.['digest'];
    if (typeof digest !== 'string') throw new ImsError('agent_error', 'the build step left no digest');
    const copied = await copyFrom(this.outside.source(image), digest, target, {
      referrers: false,
      signal: step.signal,
    });
    step.log('info', `${copied.blobsCopied} blobs pushed`);
    return { digest: copied.digest, mediaType: copied.mediaType, size: copied.size };
  }
}

function imageOf(text: string | undefined): ImageName {
  if (text === undefined) throw new ImsError('source_invalid', 'the component names no image');
  return parseImage(text);
}
