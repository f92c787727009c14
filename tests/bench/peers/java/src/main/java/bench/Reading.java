package bench;

import java.time.Duration;
import java.util.List;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.connector.file.src.FileSource;
import org.apache.flink.connector.file.src.reader.TextLineInputFormat;
import org.apache.flink.core.fs.Path;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.datastream.SingleOutputStreamOperator;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;

/** A sensor's reading; a POJO, which Flink has a fast serializer for. */
public class Reading {
    public int sensor;
    public long time;
    public double value;

    public static Reading parse(String line) {
        int first = line.indexOf(',');
        int second = line.indexOf(',', first + 1);
        Reading reading = new Reading();
        reading.sensor = Integer.parseInt(line, 0, first, 10);
        reading.time = Long.parseLong(line, first + 1, second, 10);
        reading.value = Double.parseDouble(line.substring(second + 1));
        return reading;
    }

    /** The readings of the files; with watermarks 5 s behind, or with none. */
    static DataStream<Reading> stream(StreamExecutionEnvironment env, List<String> paths, boolean watermarks) {
        SingleOutputStreamOperator<Reading> readings = lines(env, paths).map(Reading::parse);
        if (!watermarks) {
            return readings;
        }
        return readings.assignTimestampsAndWatermarks(
                WatermarkStrategy.<Reading>forBoundedOutOfOrderness(Duration.ofSeconds(5))
                        .withTimestampAssigner((reading, before) -> reading.time));
    }

    /** The lines of the files; a file is read by one subtask. */
    static DataStream<String> lines(StreamExecutionEnvironment env, List<String> paths) {
        Path[] files = paths.stream().map(Path::new).toArray(Path[]::new);
        FileSource<String> source = FileSource.forRecordStreamFormat(new TextLineInputFormat(), files).build();
        return env.fromSource(source, WatermarkStrategy.noWatermarks(), "lines");
    }
}
