import { Injectable } from '@nestjs/common';
import { createVendor, CreatedVendor, getVendor, newId, Vendor, type CreateVendor, type VendorScope } from '#contracts';
import { Serves } from '#messaging';
import { Database } from '#persistence';
import { VendorRow } from '../catalogue/entities.js';
import { found, insert, unlessTaken } from '../catalogue/lists.js';
import { caller, iso, wire } from '../wire.js';
import { Enrolments } from './enrolment.js';

/** A vendor and what it gets with its account: a build agent's identity, waiting to be enrolled. */
@Injectable()
export class Vendors {
  constructor(
    private readonly database: Database,
    private readonly enrolments: Enrolments,
  ) {}

  @Serves(createVendor)
  async createVendor({ vendor, vendor_id, enrolment }: CreateVendor): Promise<CreatedVendor> {
    const row = { id: vendor_id ?? newId('vendor'), name: vendor.name } as VendorRow;
    const write = this.database.transaction(async (tx) => {
      const agent_id = newId('agent');
      await insert(tx.manager, VendorRow, row);
      await tx.query(`INSERT INTO agents (id, vendor_id, kind) VALUES ($1, $2, 'build')`, [agent_id, row.id]);
      const ticket = await this.enrolments.issue(tx, agent_id, 'build', enrolment);
      await tx.record({
        chainOf: row.id,
        type: 'vendor.created',
        vendor_id: row.id,
        agent_id,
        actor: caller(),
        data: { name: row.name },
      });
      return ticket;
    });
    const build_agent = await unlessTaken(`a vendor with the name ${vendor.name}`, write);
    return wire(CreatedVendor, { vendor: viewVendor(row), build_agent });
  }

  @Serves(getVendor)
  async getVendor({ vendor_id }: VendorScope): Promise<Vendor> {
    const row = await this.database.transaction(({ manager }) => manager.findOneBy(VendorRow, { id: vendor_id }));
    return viewVendor(found(row, `vendor ${vendor_id}`));
  }
}

const viewVendor = (row: VendorRow): Vendor =>
  wire(Vendor, { id: row.id, name: row.name, created_at: iso(row.created_at) });
