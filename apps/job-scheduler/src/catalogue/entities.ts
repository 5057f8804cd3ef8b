import { Column, CreateDateColumn, Entity, PrimaryColumn } from 'typeorm';
import {
  type AppId,
  type ApprovalPolicy,
  type Artifact,
  type BuildId,
  type ComponentId,
  type ComponentSpec,
  type InputDeclaration,
  type MarkedBad,
  type ReleaseComponent,
  type ReleaseId,
  type VendorId,
} from '#contracts';

/** The fields of a wire shape without its class: what a jsonb column holds. */
export type Stored<T> = Pick<T, keyof T>;
export type StoredSpec = Stored<ComponentSpec>;

@Entity('vendors')
export class VendorRow {
  @PrimaryColumn('text') id: VendorId;
  @Column('text') name: string;
  @CreateDateColumn({ type: 'timestamptz' }) created_at: Date;
}

@Entity('apps')
export class AppRow {
  @PrimaryColumn('text') id: AppId;
  @Column('text') vendor_id: VendorId;
  @Column('text') name: string;
  @Column('jsonb') inputs: InputDeclaration[];
  @Column('jsonb', { nullable: true }) approval: Stored<ApprovalPolicy> | null;
  @CreateDateColumn({ type: 'timestamptz' }) created_at: Date;
}

@Entity('components')
export class ComponentRow {
  @PrimaryColumn('text') id: ComponentId;
  @Column('text') vendor_id: VendorId;
  @Column('text') app_id: AppId;
  @Column('text') name: string;
  @Column('jsonb') spec: StoredSpec;
  @CreateDateColumn({ type: 'timestamptz' }) created_at: Date;
}

@Entity('releases')
export class ReleaseRow {
  @PrimaryColumn('text') id: ReleaseId;
  @Column('text') vendor_id: VendorId;
  @Column('text') app_id: AppId;
  @Column('text') version: string;
  @Column('jsonb') components: Stored<ReleaseComponent>[];
  /** Null for releases of before it was kept: the app's. */
  @Column('jsonb', { nullable: true }) inputs: InputDeclaration[] | null;
  @Column('boolean', { default: false }) required: boolean;
  @Column('text', { nullable: true }) rollback_floor: string | null;
  @Column('jsonb', { nullable: true }) bad: Stored<MarkedBad> | null;
  @CreateDateColumn({ type: 'timestamptz' }) created_at: Date;
}

/** A component beside its newest successful build; the build's columns are null when there is none. */
export interface BuiltComponent {
  readonly component_id: ComponentId;
  readonly name: string;
  readonly spec: StoredSpec;
  readonly build_id: BuildId | null;
  readonly build_spec: StoredSpec | null;
  readonly artifact: Stored<Artifact> | null;
  readonly source_commit: string | null;
  readonly references: string[] | null;
}
