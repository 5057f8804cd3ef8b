import { type StepContext } from '#agent-kit';
import { ImsError, type Artifact, type Enrolment } from '#contracts';
import { builderIdOf, buildTypeOf, EXTERNAL_PARAMETERS } from '#domain';
import { verifyFrom, type ArtifactSource } from '#oci';

export function artifactOf({ statement }: StepContext): Artifact {
  if (!statement.artifact) throw new ImsError('statement_refused', 'the job names no artifact');
  return statement.artifact;
}

/**
 * Checks that the vendor's own build agent made this digest, from the commit that the job states, of this kind and
 * for this component. The keys are those that this agent has pinned; an IMS that is taken over cannot add one.
 */
export async function verifyProvenance(
  step: StepContext,
  { vendor_keys: keys }: Readonly<Enrolment>,
  from: ArtifactSource,
): Promise<void> {
  const { statement, signal } = step;
  const { digest } = artifactOf(step);
  if (keys.length === 0) throw new ImsError('signature_untrusted', 'no key of the vendor is known here yet');
  await verifyFrom(from, {
    digest,
    publicKeyPem: keys,
    expect: {
      builderId: builderIdOf(statement.vendor_id),
      buildType: buildTypeOf(statement.component.kind),
      rule: ({ predicate }) => {
        const { externalParameters: built } = predicate.buildDefinition;
        const expected = {
          component: statement.component.name,
          app: statement.app_name,
          source_commit: statement.source_commit,
        };
        // What this version does not know may change what was built in a way that it cannot judge.
        const unknown = Object.keys(built).find((name) => !(EXTERNAL_PARAMETERS as readonly string[]).includes(name));
        if (unknown !== undefined) return `it was built with the parameter ${unknown}, which is not known here`;
        const wrong = Object.entries(expected).find(([name, value]) => value !== undefined && built[name] !== value);
        return wrong && `it was built with another ${wrong[0]} than the job says`;
      },
    },
    signal,
  });
  step.log('info', `${from.name}@${digest} is signed by the vendor`);
}
