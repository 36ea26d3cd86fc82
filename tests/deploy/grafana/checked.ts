// The published types of a dashboard, as its JSON has to be: enums by their values, and each panel by its own options.
import type { Dashboard, DataQuery, FieldConfig, Panel, RowPanel } from "@grafana/schema";
import type { Options as StatOptions } from "@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen";
import type {
  FieldConfig as TimeSeriesFieldConfig,
  Options as TimeSeriesOptions,
} from "@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen";

type Json<T> = T extends string
  ? `${T}`
  : T extends number
    ? number
    : T extends (infer U)[]
      ? Json<U>[]
      : T extends object
        ? { [K in keyof T]: Json<T[K]> }
        : T;

// What Grafana's Prometheus plugin adds to a query; its types are not published with the others.
type Query = Omit<DataQuery, "datasource"> & {
  datasource: { type: "prometheus"; uid: "${datasource}" };
  expr: string;
  legendFormat: string;
  editorMode: "code";
  range: boolean;
  instant?: boolean;
};
type Plain = Omit<Panel, "type" | "options" | "fieldConfig" | "targets"> & {
  title: string;
  description: string;
  targets: Query[];
};
type Fields<Custom> = { defaults: Json<Omit<FieldConfig, "custom">> & { custom?: Custom }; overrides: [] };
type TimeSeries = Json<Plain> & {
  type: "timeseries";
  options: Json<TimeSeriesOptions>;
  fieldConfig: Fields<Json<TimeSeriesFieldConfig>>;
};
type Stat = Json<Plain> & { type: "stat"; options: Json<StatOptions>; fieldConfig: Fields<never> };

export type Checked = Json<Omit<Dashboard, "panels">> & { panels: (TimeSeries | Stat | Json<RowPanel>)[] };
