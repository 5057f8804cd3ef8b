import { Controller, Inject } from '@nestjs/common';
import {
  createVendor,
  getVendor,
  IdOf,
  ImsError,
  listAgents,
  LIMITS,
  NewVendor,
  Text,
  Vendor,
  VendorAccount,
  type EnrolmentToken,
  type KeyId,
  type VendorId,
} from '#contracts';
import { Bus } from '#messaging';
import { ApiKeys } from './access/api-keys.js';
import { EnrolmentTokens } from './access/enrolment-tokens.js';
import { GatewayConfig } from './config.js';
import { type Ask } from './edge/ask.js';
import { Route } from './edge/route.js';

/** An API key as it is answered once. Keys belong to this service alone, so the shape is declared here. */
export class ApiKey {
  @IdOf('key') id: KeyId;
  @IdOf('vendor') vendor_id: VendorId;
  @Text(20, 200) api_key: string;
}

@Controller()
export class VendorsController {
  constructor(
    private readonly bus: Bus,
    private readonly keys: ApiKeys,
    private readonly enrolments: EnrolmentTokens,
    @Inject(GatewayConfig) private readonly config: GatewayConfig,
  ) {}

  @Route({
    method: 'POST',
    path: '/v1/vendors',
    summary:
      'Sign up a vendor: its registry namespace, build agent identity and first API key. Secrets are shown once.',
    access: 'operator',
    body: NewVendor,
    reply: VendorAccount,
    status: 201,
    secret: true,
    location: () => '/v1/vendor',
  })
  async signUpVendor(ask: Ask<NewVendor>): Promise<VendorAccount> {
    // Both ids stay the same when this request is repeated under its Idempotency-Key after an interruption.
    const { vendor, build_agent } = await this.createVendor(ask.reserve('vendor'), ask.body);
    const api_key = await this.keys.create(ask.reserve('key'), vendor.id);
    const registry = { url: this.config.VENDOR_REGISTRY_URL, namespace: vendor.name };
    return { vendor, api_key, registry, build_agent };
  }

  /**
   * Creates the vendor, or goes on with the one that an earlier try of the same request has made: the id, chosen here,
   * tells it from another vendor of that name. Its enrolment token was in the lost answer, so it gets a new one.
   */
  private async createVendor(
    id: VendorId,
    vendor: NewVendor,
  ): Promise<{ readonly vendor: Vendor; readonly build_agent: EnrolmentToken }> {
    try {
      let made: Vendor | undefined;
      const build_agent = await this.enrolments.make(async (enrolment) => {
        const created = await this.bus.call(createVendor, { vendor, vendor_id: id, enrolment });
        made = created.vendor;
        return created.build_agent;
      });
      if (made === undefined) throw new Error('the vendor was not made');
      return { vendor: made, build_agent };
    } catch (error) {
      if (!(error instanceof ImsError) || error.code !== 'already_exists') throw error;
      const made = await this.bus.call(getVendor, { vendor_id: id }).catch((missing: unknown) => {
        throw missing instanceof ImsError && missing.code === 'not_found' ? error : missing;
      });
      const { data: agents } = await this.bus.call(listAgents, { vendor_id: id, limit: LIMITS.pageMax });
      const agent = agents.find(({ kind }) => kind === 'build');
      if (agent === undefined) throw error;
      return { vendor: made, build_agent: await this.enrolments.forAgent(id, agent.id) };
    }
  }

  @Route({
    method: 'POST',
    path: '/v1/vendors/{vendor_id}/keys',
    summary: 'Make another API key for a vendor. It is shown once.',
    access: 'operator',
    reply: ApiKey,
    status: 201,
    secret: true,
  })
  async createApiKey(ask: Ask): Promise<ApiKey> {
    const vendor = await this.bus.call(getVendor, { vendor_id: ask.id('vendor') });
    const id = ask.reserve('key');
    return { id, vendor_id: vendor.id, api_key: await this.keys.create(id, vendor.id) };
  }

  @Route({
    method: 'GET',
    path: '/v1/vendor',
    summary: 'The vendor whose API key this is.',
    access: 'vendor',
    reply: Vendor,
    status: 200,
    etag: true,
  })
  getVendor(ask: Ask): Promise<Vendor> {
    return this.bus.call(getVendor, { vendor_id: ask.vendorId });
  }
}
