import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { Injectable } from '@nestjs/common';
import { Identity, RegistryTokens, type JobHandler, type StepContext, type StepDefinition } from '#agent-kit';
import { ImsError, type JsonObject } from '#contracts';
import {
  accessSource,
  copyFrom,
  isSignatureFault,
  remembering,
  registrySource,
  secretsOf,
  type ArtifactSource,
  type CopyResult,
} from '#oci';
import { InstallAgentConfig } from './config.js';
import { InstallRegistry } from './install-registry.js';
import { artifactOf, verifyProvenance } from './verification.js';

/** Where an artifact is in the install's registry. */
export const localRepository = ({ statement }: Pick<StepContext, 'statement'>): string =>
  `${statement.app_name}/${statement.component.name}`;

/** Brings one artifact into the install's registry: look whether it is there, else fetch it with a one-time token. */
@Injectable()
export class SyncHandler implements JobHandler {
  readonly kind = 'sync';

  constructor(
    private readonly identity: Identity,
    private readonly tokens: RegistryTokens,
    private readonly registry: InstallRegistry,
    private readonly config: InstallAgentConfig,
  ) {}

  steps(): readonly StepDefinition[] {
    return [
      { name: 'look', run: (step) => this.look(step) },
      { name: 'fetch', run: (step) => this.fetch(step) },
    ];
  }

  result({ fetch = {} }: Readonly<Record<string, JsonObject>>): { result: JsonObject } {
    return { result: fetch };
  }

  /** Manifests are stored after what they name, signatures last: a signed manifest that is here is here as a whole. */
  private async look(step: StepContext): Promise<JsonObject> {
    const { digest } = artifactOf(step);
    const here = { client: this.registry.client, repository: localRepository(step) };
    if (!(await here.client.headManifest(here.repository, digest, { signal: step.signal }))) return { present: false };
    try {
      await verifyProvenance(step, this.identity.enrolment, registrySource(here));
      return { present: true };
    } catch (error) {
      if (!isSignatureFault(error)) throw error;
      return { present: false };
    }
  }

  /**
   * Redeem, verify, copy: one step, since the token and what it was exchanged for are in memory only. After a crash
   * a new token is asked for; the job's statement still gives the right to one.
   */
  private async fetch(step: StepContext): Promise<JsonObject> {
    const { digest } = artifactOf(step);
    if (step.outputOf('look')?.['present'] === true) {
      step.log('info', `${digest} is in the install's registry: nothing to fetch`);
      return { digest, bytes_copied: 0, blobs_copied: 0, blobs_skipped: 0 };
    }
    const { copied, transferMs } = await this.copy(step, digest);
    step.log(
      'info',
      `copied ${copied.bytesCopied} bytes in ${copied.blobsCopied} blobs; ${copied.blobsSkipped} were there`,
    );
    return {
      digest,
      bytes_copied: copied.bytesCopied,
      blobs_copied: copied.blobsCopied,
      blobs_skipped: copied.blobsSkipped,
      transfer_ms: transferMs,
    };
  }

  /**
   * With a large artifact on a slow line a right may end before the last blob has begun. What was copied stays, so a
   * new token goes on from there, as long as each round brings something.
   */
  private async copy(step: StepContext, digest: string): Promise<{ copied: CopyResult; transferMs: number }> {
    let blobsDone = 0;
    let transferMs = 0;
    for (;;) {
      const before = blobsDone;
      const source = remembering(await this.redeem(step));
      const from = performance.now();
      await verifyProvenance(step, this.identity.enrolment, source);
      try {
        const copied = await copyFrom(
          source,
          digest,
          { client: this.registry.client, repository: localRepository(step) },
          {
            signal: step.signal,
            onProgress: (progress) => {
              blobsDone = Math.max(blobsDone, progress.blobsDone);
            },
          },
        );
        return { copied, transferMs: Math.round(transferMs + performance.now() - from) };
      } catch (error) {
        transferMs += performance.now() - from;
        const ended = error instanceof ImsError && error.code === 'registry_denied';
        if (!ended || blobsDone === before) throw error;
        step.log('info', `the right to fetch ended after ${blobsDone} blobs; asking for another`);
      }
    }
  }

  /** Burns a new token: what it gives, whatever kind of registry the vendor has. */
  private async redeem(step: StepContext): Promise<ArtifactSource> {
    const issued = await this.tokens.requestPullToken(step.envelope, step.signal);
    step.secrets.add(issued.token);
    const access = await this.tokens.redeemPullToken(issued.token, randomUUID(), step.signal);
    for (const secret of secretsOf(access)) step.secrets.add(secret);
    const { CA_FILE } = this.config;
    return accessSource(access, CA_FILE === undefined ? {} : { ca: await readFile(CA_FILE, 'utf8') });
  }
}
